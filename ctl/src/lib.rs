//! rctl: the command line of the cluster.
