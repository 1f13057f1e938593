//! `/containerLogs`: reading a container's log files as the caller wants them.

use crate::logs::{Entry, parse, time_of};
use bytes::Bytes;
use jiff::Timestamp;
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncSeekExt as _, BufReader};
use tokio::sync::mpsc;

/// How a log is to be shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LogOptions {
    pub(crate) follow: bool,
    pub(crate) previous: bool,
    pub(crate) timestamps: bool,
    pub(crate) tail: Option<u64>,
    pub(crate) limit_bytes: Option<u64>,
    pub(crate) since: Option<Timestamp>,
    /// Only this stream: stdout or stderr.
    pub(crate) stream: Option<String>,
}

impl LogOptions {
    /// Reads the options from a query; refused with what is wrong.
    pub(crate) fn parse(query: &[(String, String)], now: Timestamp) -> Result<Self, String> {
        let mut out = Self::default();
        for (name, value) in query {
            let flag = || matches!(value.as_str(), "" | "1" | "true" | "True" | "TRUE" | "t" | "T");
            let number = || {
                value
                    .parse::<u64>()
                    .map_err(|_| format!("{name}: {value:?} is not a whole number of 0 or more"))
            };
            match name.as_str() {
                "follow" => out.follow = flag(),
                "previous" => out.previous = flag(),
                "timestamps" => out.timestamps = flag(),
                "tailLines" => out.tail = Some(number()?),
                "limitBytes" => out.limit_bytes = Some(number()?),
                "sinceSeconds" => {
                    let seconds = i64::try_from(number()?).unwrap_or(i64::MAX);
                    let since = now.as_second().saturating_sub(seconds).max(0);
                    out.since = Timestamp::from_second(since).ok();
                }
                "sinceTime" => {
                    let at = value
                        .parse()
                        .map_err(|e| format!("sinceTime: {value:?} is no time: {e}"))?;
                    out.since = Some(at);
                }
                "stream" => {
                    out.stream = match value.as_str() {
                        "Stdout" => Some("stdout".to_owned()),
                        "Stderr" => Some("stderr".to_owned()),
                        "" | "All" => None,
                        other => {
                            return Err(format!("stream: {other:?} is not one of All, Stdout and Stderr"));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(out)
    }

    /// An entry as it is shown; none when it isn't.
    fn shown(&self, line: &[u8]) -> Option<Vec<u8>> {
        let entry: Entry<'_> = parse(line)?;
        if self.stream.as_deref().is_some_and(|s| s != entry.stream) {
            return None;
        }
        if let Some(since) = self.since
            && time_of(&entry).is_some_and(|t| t < since)
        {
            return None;
        }
        let mut out = Vec::with_capacity(entry.text.len() + 40);
        if self.timestamps {
            out.extend_from_slice(entry.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(entry.text);
        if !entry.partial {
            out.push(b'\n');
        }
        Some(out)
    }
}

/// The place in a file at which its last so many lines begin.
async fn tail_start(path: &Path, lines: u64) -> io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    let mut file = tokio::fs::File::open(path).await?;
    let length = file.metadata().await?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut end = length;
    let mut found = 0;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(io::SeekFrom::Start(start)).await?;
        let mut block = vec![0; usize::try_from(end - start).unwrap_or(0)];
        file.read_exact(&mut block).await?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            let place = start + at as u64 + 1;
            if place == length {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok(place);
            }
        }
        end = start;
    }
    Ok(0)
}

/// Reads a log into a channel. A follower goes on until `ended` says that the container runs no more; it notices when the file is
/// rotated away.
pub(crate) async fn read(
    path: PathBuf,
    options: LogOptions,
    out: mpsc::Sender<Result<Bytes, io::Error>>,
    ended: impl Fn() -> bool + Send,
) -> io::Result<()> {
    let start = match options.tail {
        Some(lines) => tail_start(&path, lines).await?,
        None => 0,
    };
    let mut file = tokio::fs::File::open(&path).await?;
    file.seek(io::SeekFrom::Start(start)).await?;
    let mut reader = BufReader::with_capacity(64 << 10, file);
    let mut line = Vec::new();
    let mut batch: Vec<u8> = Vec::new();
    let mut left = options.limit_bytes.unwrap_or(u64::MAX);
    let mut last_look = false;
    loop {
        let read = reader.read_until(b'\n', &mut line).await?;
        if read > 0 && line.ends_with(b"\n") {
            if let Some(text) = options.shown(line.strip_suffix(b"\n").unwrap_or(&line)) {
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(text.len());
                batch.extend_from_slice(text.get(..take).unwrap_or(&text));
                left -= take as u64;
            }
            line.clear();
            if batch.len() >= 32 << 10 || left == 0 {
                if out.send(Ok(std::mem::take(&mut batch).into())).await.is_err() {
                    return Ok(());
                }
                if left == 0 {
                    return Ok(());
                }
            }
            continue;
        }
        if !batch.is_empty() && out.send(Ok(std::mem::take(&mut batch).into())).await.is_err() {
            return Ok(());
        }
        if !options.follow || last_look {
            return Ok(());
        }
        if is_rotated(&path, &mut reader).await {
            // What was written between the last look and the rotation is still in the old file.
            while reader.read_until(b'\n', &mut line).await? > 0 {
                if let Some(text) = options.shown(line.strip_suffix(b"\n").unwrap_or(&line)) {
                    let _ = out.send(Ok(text.into())).await;
                }
                line.clear();
            }
            if let Ok(file) = tokio::fs::File::open(&path).await {
                reader = BufReader::with_capacity(64 << 10, file);
            }
            continue;
        }
        last_look = ended();
        if !last_look {
            tokio::select! {
                () = tokio::time::sleep(std::time::Duration::from_millis(100)) => {}
                () = out.closed() => return Ok(()),
            }
        }
    }
}

async fn is_rotated(path: &Path, reader: &mut BufReader<tokio::fs::File>) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (tokio::fs::metadata(path).await, reader.get_ref().metadata().await) {
        (Ok(now), Ok(open)) => now.ino() != open.ino(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shown(text: &str, query: &[(&str, &str)]) -> String {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("0.log");
        std::fs::write(&path, text).expect("a file");
        let query: Vec<(String, String)> = query
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let now = "2026-11-21T07:01:00Z".parse().expect("a time");
        let options = LogOptions::parse(&query, now).expect("options");
        let (sender, mut receiver) = mpsc::channel(100);
        read(path, options, sender, || true).await.expect("a log");
        let mut out = Vec::new();
        while let Some(Ok(bytes)) = receiver.recv().await {
            out.extend_from_slice(&bytes);
        }
        String::from_utf8(out).expect("text")
    }

    #[tokio::test]
    async fn options_choose_what_is_shown() {
        let text = "2026-11-21T07:00:00Z stdout F one\n2026-11-21T07:00:10Z stderr P tw\n2026-11-21T07:00:10Z stderr F o\n2026-11-21T07:00:50Z stdout F three\n";
        assert_eq!(shown(text, &[]).await, "one\ntwo\nthree\n");
        assert_eq!(shown(text, &[("tailLines", "1")]).await, "three\n");
        assert_eq!(shown(text, &[("tailLines", "0")]).await, "");
        assert_eq!(shown(text, &[("tailLines", "9")]).await, "one\ntwo\nthree\n");
        assert_eq!(shown(text, &[("sinceSeconds", "20")]).await, "three\n");
        assert_eq!(shown(text, &[("limitBytes", "5")]).await, "one\nt");
        assert_eq!(
            shown(text, &[("timestamps", "true"), ("tailLines", "1")]).await,
            "2026-11-21T07:00:50Z three\n"
        );
        assert_eq!(
            shown(text, &[("stream", "Stdout"), ("follow", "1")]).await,
            "one\nthree\n"
        );
    }
}
