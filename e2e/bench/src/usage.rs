//! What a process has used, from `/proc`.

use anyhow::Context as _;

/// Linux tells processes' times in this unit, whatever its own clock does.
const TICKS: f64 = 100.0;

/// CPU seconds since the process began, and its memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) cpu: f64,
    pub(crate) resident: u64,
    pub(crate) peak: u64,
}

impl Usage {
    /// Of a process.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/{file}"))
                .with_context(|| format!("process {pid} is gone or hidden"))
        };
        Self::parse(&read("stat")?, &read("status")?)
            .with_context(|| format!("/proc/{pid} is not as expected"))
    }

    fn parse(stat: &str, status: &str) -> Option<Self> {
        // The name may hold spaces and parentheses; what follows the last one doesn't.
        let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        let memory = |name: &str| -> Option<u64> {
            let line = status.lines().find(|line| line.starts_with(name))?;
            let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
            Some(kib * 1024)
        };
        Some(Self {
            cpu: (user + system) as f64 / TICKS,
            resident: memory("VmRSS:")?,
            peak: memory("VmHWM:")?,
        })
    }
}

/// Begins the peak anew. Without the right to, the peak goes on being the process's.
pub(crate) fn reset_peak(pid: u32) {
    let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_does_not_shift_the_fields() {
        let stat = "42 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 4 0 100 1000 200";
        let status = "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n";
        let want = Usage {
            cpu: 2.0,
            resident: 1 << 20,
            peak: 2 << 20,
        };
        assert_eq!(Usage::parse(stat, status), Some(want));
        assert_eq!(Usage::parse("", status), None);
        assert_eq!(Usage::parse(stat, "Name:\tx\n"), None);
    }

    #[test]
    fn this_very_process_is_found() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident > 0 && usage.peak >= usage.resident / 2);
    }
}
