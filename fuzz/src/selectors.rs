//! Selectors: what is printed is parsed to the same, and selects the same.

use crate::make::Maker;
use rutter_api::selector::FieldRequirement;
use rutter_api::{FieldSelector, LabelSelector};
use serde_json::{Map, Value};

/// Label selectors of texts and of objects.
pub fn labels(data: &[u8]) {
    let mut maker = Maker::new(data);
    let sets: Vec<Value> = (0..maker.count(4)).map(|_| labels_of(&mut maker)).collect();
    if maker.flip() {
        let selector = maker.sample(rutter_api::schema::builtin(), LABEL_SELECTOR);
        if let Ok(selector) = LabelSelector::from_object(&selector) {
            label_round(&selector, &sets);
        }
        let equal = labels_of(&mut maker);
        let all_equal = LabelSelector::from_map(&equal);
        for set in &sets {
            let wanted = equal
                .as_object()
                .into_iter()
                .flatten()
                .all(|(key, value)| set.get(key) == Some(value));
            assert_eq!(all_equal.matches_labels(set), wanted);
        }
        return;
    }
    let text = String::from_utf8_lossy(maker.rest());
    if let Ok(selector) = LabelSelector::parse(&text) {
        label_round(&selector, &sets);
    }
}

const LABEL_SELECTOR: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector";

fn labels_of(maker: &mut Maker<'_>) -> Value {
    let entries = (0..maker.count(4)).map(|_| {
        let key = maker.pick(&["a", "b", "c", "x", "y", "a-b", "c.d/e"]);
        let value = maker.pick(&["a", "b", "c", "x", "y", "a-b", "", "1", "7", "-3"]);
        (key.to_owned(), Value::from(value))
    });
    Value::Object(entries.collect::<Map<_, _>>())
}

fn label_round(selector: &LabelSelector, sets: &[Value]) {
    let printed = selector.to_string();
    let again = LabelSelector::parse(&printed).unwrap_or_else(|e| panic!("{e}: {printed}"));
    assert_eq!(again.to_string(), printed, "printed in another way");
    for set in sets {
        let one_by_one = selector
            .requirements()
            .iter()
            .all(|requirement| requirement.matches(set.get(&requirement.key).and_then(Value::as_str)));
        assert_eq!(selector.matches_labels(set), one_by_one);
        assert_eq!(again.matches_labels(set), one_by_one, "{printed} on {set}");
        let object = serde_json::json!({"metadata": {"labels": set}});
        assert_eq!(selector.matches_object(&object), one_by_one);
    }
}

/// Field selectors of texts.
pub fn fields(data: &[u8]) {
    let mut maker = Maker::new(data);
    let values: Vec<String> = (0..4).map(|_| maker.word()).collect();
    let text = String::from_utf8_lossy(maker.rest());
    let Ok(selector) = FieldSelector::parse(&text) else {
        return;
    };
    let printed = selector.to_string();
    let again = FieldSelector::parse(&printed).unwrap_or_else(|e| panic!("{e}: {printed}"));
    assert_eq!(sorted(&again), sorted(&selector), "{printed}");
    for value in &values {
        let get = |field: &str| (field.len() % 2 == 0).then_some(value.as_str());
        let wanted = selector
            .requirements()
            .iter()
            .all(|r| (get(&r.field).unwrap_or_default() == r.value) != r.negated);
        assert_eq!(selector.matches(get), wanted);
        assert_eq!(again.matches(get), wanted);
    }
    for requirement in selector.requirements().iter().filter(|r| !r.negated) {
        assert!(selector.exact(&requirement.field).is_some());
    }
}

fn sorted(selector: &FieldSelector) -> Vec<(String, String, bool)> {
    let of = |r: &FieldRequirement| (r.field.clone(), r.value.clone(), r.negated);
    let mut all: Vec<_> = selector.requirements().iter().map(of).collect();
    all.sort();
    all
}
