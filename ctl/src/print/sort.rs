//! `--sort-by`: orders objects by a field.

use super::jsonpath;
use crate::error::{Error, Result, go_quote};
use rutter_api::Quantity;
use serde_json::Value;
use std::cmp::Ordering;

/// Sorts items by the field that a path finds in what `object` gives for each.
pub fn by<T>(items: &mut [T], path: &str, object: impl Fn(&T) -> &Value) -> Result<()> {
    let text = jsonpath::relaxed(path).map_err(Error::new)?;
    let template = jsonpath::parse(&text).map_err(Error::new)?;
    let key = |value: &Value| -> Result<Option<Value>> {
        let found = template.find(value, true).map_err(Error::new)?;
        Ok(found.into_iter().flatten().next())
    };
    let mut keyed: Vec<(usize, Option<Value>)> = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        keyed.push((at, key(object(item))?));
    }
    if !items.is_empty() && keyed.iter().all(|(_, k)| k.is_none()) {
        return Err(Error::new(format!(
            "couldn't find any field with path {} in the list of objects",
            go_quote(&text)
        )));
    }
    keyed.sort_by(|(_, a), (_, b)| compare(a.as_ref(), b.as_ref()));
    permute(items, &keyed.iter().map(|(at, _)| *at).collect::<Vec<_>>());
    Ok(())
}

/// Puts `items[order[i]]` at `i`.
fn permute<T>(items: &mut [T], order: &[usize]) {
    let mut position: Vec<usize> = (0..items.len()).collect();
    let mut place: Vec<usize> = (0..items.len()).collect();
    for (to, &original) in order.iter().enumerate() {
        let from = place[original];
        items.swap(to, from);
        let displaced = position[to];
        position.swap(to, from);
        place[displaced] = from;
        place[original] = to;
    }
}

fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    let (a, b) = match (a, b) {
        (None, None) => return Ordering::Equal,
        (None, _) => return Ordering::Less,
        (_, None) => return Ordering::Greater,
        (Some(a), Some(b)) => (a, b),
    };
    if let (Some(x), Some(y)) = (a.as_f64(), b.as_f64()) {
        return x.partial_cmp(&y).unwrap_or(Ordering::Equal);
    }
    match (a, b) {
        (Value::String(x), Value::String(y)) => {
            if let (Ok(x), Ok(y)) = (x.parse::<Quantity>(), y.parse::<Quantity>()) {
                return x.cmp(&y);
            }
            natural(x, y)
        }
        (Value::Bool(x), Value::Bool(y)) => x.cmp(y),
        _ => Ordering::Equal,
    }
}

/// Digits by their number, everything else by its bytes.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a.as_bytes(), b.as_bytes());
    while let (Some(&c), Some(&d)) = (x.first(), y.first()) {
        if c.is_ascii_digit() && d.is_ascii_digit() {
            let run = |s: &[u8]| s.iter().take_while(|b| b.is_ascii_digit()).count();
            let (lx, ly) = (run(x), run(y));
            let trim = |s: &[u8]| -> Vec<u8> { s.iter().copied().skip_while(|b| *b == b'0').collect() };
            let (nx, ny) = (trim(x.get(..lx).unwrap_or(&[])), trim(y.get(..ly).unwrap_or(&[])));
            let order = nx
                .len()
                .cmp(&ny.len())
                .then_with(|| nx.cmp(&ny))
                .then(lx.cmp(&ly));
            if order != Ordering::Equal {
                return order;
            }
            x = x.get(lx..).unwrap_or(&[]);
            y = y.get(ly..).unwrap_or(&[]);
            continue;
        }
        if c != d {
            return c.cmp(&d);
        }
        x = x.get(1..).unwrap_or(&[]);
        y = y.get(1..).unwrap_or(&[]);
    }
    x.len().cmp(&y.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_ordered_by_their_field() {
        for (values, sorted) in [
            (json!(["b10", "b9", "a"]), json!(["a", "b9", "b10"])),
            (json!([3, 1, 2]), json!([1, 2, 3])),
            (json!(["1Gi", "500Mi", "2Ki"]), json!(["2Ki", "500Mi", "1Gi"])),
            (json!(["x", null, "a"]), json!([null, "a", "x"])),
        ] {
            let mut items: Vec<Value> = values
                .as_array()
                .unwrap()
                .iter()
                .map(|v| if v.is_null() { json!({}) } else { json!({"k": v}) })
                .collect();
            by(&mut items, ".k", |v| v).unwrap();
            let got: Vec<Value> = items.iter().map(|v| v["k"].clone()).collect();
            assert_eq!(Value::Array(got), sorted);
        }
    }

    #[test]
    fn a_field_that_nothing_has_is_an_error() {
        assert_eq!(
            by(&mut [json!({})], ".x", |v| v).unwrap_err().report(),
            "error: couldn't find any field with path \"{.x}\" in the list of objects"
        );
    }
}
