//! The pause container: holds a pod's namespaces, reaps what is left to it, and ends when told.

use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

fn main() {
    if std::env::args().any(|a| a == "-v") {
        println!("pause {}", env!("CARGO_PKG_VERSION"));
        return;
    }
    // A parent that ignores SIGCHLD has its children reaped by the kernel, but the disposition can't be set without
    // unsafe code; waiting for whichever child there is does as well.
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGCHLD]) else {
        std::process::exit(1)
    };
    for signal in signals.forever() {
        if signal != SIGCHLD {
            std::process::exit(0);
        }
        reap();
    }
}

fn reap() {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}
