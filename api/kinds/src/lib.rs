//! One file per built-in kind: defaults, validation, selectable fields, printed columns.
