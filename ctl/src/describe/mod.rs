//! Descriptions of objects for people, laid out as kubectl's are.
