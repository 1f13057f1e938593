//! Standard output and error: the one place that writes to them.
//!
//! A closed pipe ends the process quietly, as it does for any filter.

use std::io::Write;

/// Writes text to standard output.
pub fn print(text: &str) {
    bytes(text.as_bytes());
}

/// Writes bytes to standard output at once.
pub fn bytes(data: &[u8]) {
    let mut out = std::io::stdout().lock();
    if let Err(e) = out.write_all(data).and_then(|()| out.flush()) {
        if e.kind() == std::io::ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        std::process::exit(1);
    }
}

/// Writes text to standard error.
pub fn eprint(text: &str) {
    let mut err = std::io::stderr().lock();
    // There is nobody left to tell about it.
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// Prints a formatted line to standard output.
#[macro_export]
macro_rules! outln {
    () => { $crate::out::print("\n") };
    ($($arg:tt)*) => {{ let mut line = format!($($arg)*); line.push('\n'); $crate::out::print(&line) }};
}

/// Prints a formatted line to standard error.
#[macro_export]
macro_rules! errln {
    ($($arg:tt)*) => {{ let mut line = format!($($arg)*); line.push('\n'); $crate::out::eprint(&line) }};
}
