//! The Service proxy and pod network routes.
