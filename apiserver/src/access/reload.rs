//! Files that are read again when they change.

use futures::future::BoxFuture;
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_secs(10);

/// Calls `changed` whenever a file's contents changed, until `stop`. What fails is tried again at the next look; meanwhile all
/// stays as it was.
pub async fn follow(
    what: &str,
    files: Vec<PathBuf>,
    stop: CancellationToken,
    changed: impl Fn() -> BoxFuture<'static, anyhow::Result<()>> + Send,
) {
    let mut seen = contents(&files);
    let mut complained = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let now = contents(&files);
        if now == seen {
            continue;
        }
        match changed().await {
            Ok(()) => {
                tracing::info!("{what} reloaded");
                seen = now;
                complained = None;
            }
            Err(error) => {
                let text = format!("{error:#}");
                if complained.as_ref() != Some(&text) {
                    tracing::warn!(error = text, "changed {what} cannot be used; the old stays");
                    complained = Some(text);
                }
            }
        }
    }
}

fn contents(files: &[PathBuf]) -> Vec<Option<Vec<u8>>> {
    files.iter().map(|file| std::fs::read(file).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_taken_over_once_and_a_failure_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        std::fs::write(&file, "1").unwrap();
        let stop = CancellationToken::new();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (told, read) = (calls.clone(), file.clone());
        let task = tokio::spawn({
            let (files, stop) = (vec![file.clone()], stop.clone());
            async move {
                let changed = move || -> BoxFuture<'static, anyhow::Result<()>> {
                    let text = std::fs::read_to_string(&read).unwrap();
                    told.lock().push(text.clone());
                    Box::pin(async move {
                        anyhow::ensure!(text != "bad", "it is bad");
                        Ok(())
                    })
                };
                follow("a file", files, stop, changed).await;
            }
        });
        let look = async || {
            tokio::time::sleep(INTERVAL + Duration::from_millis(1)).await;
        };
        look().await;
        assert!(calls.lock().is_empty());
        std::fs::write(&file, "bad").unwrap();
        look().await;
        look().await;
        std::fs::write(&file, "2").unwrap();
        look().await;
        look().await;
        assert_eq!(*calls.lock(), ["bad", "bad", "2"]);
        stop.cancel();
        task.await.unwrap();
    }
}
