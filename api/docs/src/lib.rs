//! Field descriptions of the built-in kinds, taken from k8s-openapi at build time.
