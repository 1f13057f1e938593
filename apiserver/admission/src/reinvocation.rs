//! Whether plugins are asked once more because of what later ones changed. Pure.
//!
//! The chain runs once; when a webhook or a policy changed the object it runs a second time, and never a third. In the second
//! round the built-in plugins run anew; of webhooks and policies those with `reinvocationPolicy: IfNeeded` that were asked before
//! the object changed.

use rutter_api::Value;
use std::collections::HashSet;

/// The state of one write's mutating phase.
#[derive(Debug, Default)]
pub struct Reinvocation {
    round: u8,
    wanted: bool,
    plugins: Vec<(&'static str, State)>,
}

/// What one plugin did.
#[derive(Debug, Default)]
struct State {
    /// The object as the plugin left it.
    left: Option<Value>,
    /// Those that were asked and may be asked again.
    asked: HashSet<String>,
    /// Those that must be asked again in the second round.
    due: HashSet<String>,
}

impl State {
    fn all_due(&mut self) {
        self.due.extend(self.asked.drain());
    }
}

impl Reinvocation {
    /// 0 for the first round, 1 for the second.
    pub fn round(&self) -> u8 {
        self.round
    }

    /// Begins the second round if one is wanted.
    pub(crate) fn again(&mut self) -> bool {
        let again = self.round == 0 && self.wanted;
        self.round += u8::from(again);
        again
    }

    fn state(&mut self, plugin: &'static str) -> &mut State {
        let at = self.plugins.iter().position(|(name, _)| *name == plugin);
        let at = at.unwrap_or_else(|| {
            self.plugins.push((plugin, State::default()));
            self.plugins.len() - 1
        });
        &mut self.plugins[at].1
    }

    /// A plugin begins. In the second round, all it asked before are due when others changed the object since it ended.
    pub fn begin(&mut self, plugin: &'static str, object: &Value) {
        if self.round == 0 {
            return;
        }
        let state = self.state(plugin);
        if state.left.take().is_some_and(|left| left != *object) {
            state.all_due();
        }
    }

    /// A plugin ends, leaving the object like this.
    pub fn end(&mut self, plugin: &'static str, object: &Value) {
        // What nobody will compare isn't kept.
        let keep = self.round == 0 && !self.state(plugin).asked.is_empty();
        self.state(plugin).left = keep.then(|| object.clone());
    }

    /// Whether one of a plugin's webhooks or policies is asked in the second round.
    pub fn is_due(&self, plugin: &'static str, uid: &str) -> bool {
        let mut states = self.plugins.iter();
        states.any(|(name, state)| *name == plugin && state.due.contains(uid))
    }

    /// One of a plugin's webhooks or policies changed the object: there is a second round, and those asked before are due in it.
    pub fn changed(&mut self, plugin: &'static str) {
        self.wanted = true;
        self.state(plugin).all_due();
    }

    /// One that may be asked again was asked.
    pub fn asked(&mut self, plugin: &'static str, uid: &str) {
        self.state(plugin).asked.insert(uid.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn those_asked_before_a_change_are_asked_once_more() {
        let mut state = Reinvocation::default();
        state.begin("w", &json!(1));
        state.asked("w", "a");
        state.changed("w");
        state.asked("w", "b");
        state.end("w", &json!(2));
        assert!(state.again());
        state.begin("w", &json!(2));
        assert!(state.is_due("w", "a") && !state.is_due("w", "b") && !state.is_due("x", "a"));
        assert!(!state.again(), "there is no third round");
        let mut state = Reinvocation::default();
        state.asked("w", "a");
        state.end("w", &json!(1));
        assert!(!state.again(), "nothing changed");
        state.changed("x");
        assert!(state.again());
        state.begin("w", &json!(1));
        assert!(!state.is_due("w", "a"), "the object is as it was left");
        state.end("w", &json!(1));
    }
}
