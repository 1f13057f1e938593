//! Small static programs for test images.
