//! Streams to containers and pods through the apiserver.
