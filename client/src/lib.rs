//! Shared informers, work queues, leader election, events and start-up for every binary.
