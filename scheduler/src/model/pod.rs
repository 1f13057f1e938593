//! A pod as the scheduler keeps it: who it is and where it is, with everything else in its shared template.

use super::template::{PodVolume, TemplateSpec};
use super::{Str, Template};
use k8s_openapi::api::core::v1 as core;
use std::fmt;
use std::sync::Arc;

/// A pod's UID.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Uid {
    /// A UUID in its usual form.
    Uuid([u8; 16]),
    /// Any other text.
    Text(Arc<str>),
}

impl Uid {
    /// From text.
    pub fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut out = [0_u8; 16];
        let mut digits = 0;
        let usual = bytes.len() == 36
            && bytes.iter().enumerate().all(|(i, b)| {
                let value = match b {
                    b'-' => return matches!(i, 8 | 13 | 18 | 23),
                    b'0'..=b'9' => b - b'0',
                    b'a'..=b'f' => b - b'a' + 10,
                    _ => return false,
                };
                if matches!(i, 8 | 13 | 18 | 23) {
                    return false;
                }
                if let Some(byte) = out.get_mut(digits / 2) {
                    *byte = (*byte << 4) | value;
                }
                digits += 1;
                true
            });
        if usual {
            Self::Uuid(out)
        } else {
            Self::Text(text.into())
        }
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Uuid(bytes) => {
                for (i, byte) in bytes.iter().enumerate() {
                    let dash = if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" };
                    write!(f, "{dash}{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The condition PodScheduled as it stands on a pod that has no node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledCondition {
    /// `False` or `Unknown`.
    pub status: Box<str>,
    /// Why.
    pub reason: Box<str>,
    /// For people.
    pub message: Box<str>,
}

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its UID.
    pub uid: Uid,
    /// Its name.
    pub name: Box<str>,
    /// All that its placement depends on.
    pub template: Arc<Template>,
    /// The node it is on.
    pub node: Option<Str>,
    /// The node where room is being made for it.
    pub nominated: Option<Str>,
    /// Seconds since 1970 at which its kubelet took it on.
    pub started: Option<i64>,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Whether it is being deleted because a scheduler wanted its place.
    pub preempted: bool,
    /// metadata.generation.
    pub generation: i64,
    /// The condition PodScheduled, while it isn't True.
    pub condition: Option<Box<ScheduledCondition>>,
}

impl Pod {
    /// From the API's object.
    pub fn new(pod: &core::Pod) -> Self {
        let meta = &pod.metadata;
        let status = pod.status.as_ref();
        let empty = core::PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
        let terminating = meta.deletion_timestamp.is_some();
        let preempted = terminating
            && conditions.iter().any(|c| {
                c.type_ == "DisruptionTarget"
                    && c.status == "True"
                    && c.reason.as_deref() == Some("PreemptionByScheduler")
            });
        let given = |text: Option<&str>| text.filter(|t| !t.is_empty()).map(Str::new);
        Self {
            uid: Uid::new(meta.uid.as_deref().unwrap_or_default()),
            name: meta.name.as_deref().unwrap_or_default().into(),
            template: Template::shared(TemplateSpec::new(meta, spec, status)),
            node: given(spec.node_name.as_deref()),
            nominated: given(status.and_then(|s| s.nominated_node_name.as_deref())),
            started: status
                .and_then(|s| s.start_time.as_ref())
                .map(|t| t.0.as_second()),
            terminating,
            preempted,
            generation: meta.generation.unwrap_or(0),
            condition: conditions
                .iter()
                .find(|c| c.type_ == "PodScheduled" && c.status != "True")
                .map(|c| {
                    Box::new(ScheduledCondition {
                        status: c.status.as_str().into(),
                        reason: c.reason.as_deref().unwrap_or_default().into(),
                        message: c.message.as_deref().unwrap_or_default().into(),
                    })
                }),
        }
    }

    /// The namespace.
    pub fn namespace(&self) -> &Str {
        &self.template.namespace
    }

    /// The priority.
    pub fn priority(&self) -> i32 {
        self.template.priority
    }

    /// The names of the claims that its volumes use, and whether each is of a generic ephemeral volume.
    pub fn claims(&self) -> impl Iterator<Item = (Str, bool)> {
        self.template.wishes().volumes.iter().filter_map(|v| match v {
            PodVolume::Claim(name) => Some((name.clone(), false)),
            PodVolume::Ephemeral(volume) => Some((Str::new(&format!("{}-{volume}", self.name)), true)),
            _ => None,
        })
    }
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.template.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_prints_as_it_was_read() {
        for text in [
            "9f0b3c9a-0a7e-4c59-bb2c-97d1c53f6a10",
            "9F0B3C9A-0A7E-4C59-BB2C-97D1C53F6A10",
            "",
            "mirror",
            "9f0b3c9a0-a7e-4c59-bb2c-97d1c53f6a10",
        ] {
            assert_eq!(Uid::new(text).to_string(), text);
        }
        assert!(matches!(
            Uid::new("9f0b3c9a-0a7e-4c59-bb2c-97d1c53f6a10"),
            Uid::Uuid(_)
        ));
    }
}
