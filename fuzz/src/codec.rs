//! JSON, YAML and protobuf: what is read is written and read again, and readers agree with one another.

use crate::make::{KINDS, Maker, without_empties};
use rutter_api::codec::{json, protobuf, yaml};
use rutter_api::outline::outline;
use rutter_api::schema::{DecodeError, FieldValidation, builtin, decode, decode_with_duplicates};
use serde_json::Value;

/// JSON is read as serde_json reads it, what is written reads back, and decoding by a schema says the same however strict it is.
pub fn read_json(data: &[u8]) {
    let Some((which, text)) = data.split_first() else {
        return;
    };
    let reference = serde_json::from_slice::<Value>(text);
    let Ok((tree, duplicates)) = json::parse(text) else {
        assert!(reference.is_err(), "only serde_json reads it");
        return;
    };
    assert_eq!(
        reference.ok().as_ref(),
        Some(&tree),
        "serde_json reads something else"
    );
    assert_eq!(json::parse(&json::to_vec(&tree)), Ok((tree.clone(), Vec::new())));
    if duplicates.is_empty()
        && let Ok(outlined) = outline(text, false)
    {
        for field in ["name", "namespace", "uid", "labels", "ownerReferences"] {
            let (told, full) = (&outlined["metadata"][field], &tree["metadata"][field]);
            assert_eq!(told, full, "the outline says something else of {field}");
        }
    }
    decoded(usize::from(*which), &tree, &duplicates);
}

/// Decodes by the schema of some kind.
fn decoded(which: usize, tree: &Value, duplicates: &[String]) {
    let (_, name) = &KINDS[which % KINDS.len()];
    let by = |mode| decode_with_duplicates(builtin(), name, tree.clone(), mode, duplicates);
    let (ignored, warned) = (by(FieldValidation::Ignore), by(FieldValidation::Warn));
    let strict = by(FieldValidation::Strict);
    let Ok(warned) = warned else {
        assert!(
            ignored.is_err() && strict.is_err(),
            "refused only where fields are told"
        );
        return;
    };
    assert_eq!(ignored.map(|d| d.value).as_ref(), Ok(&warned.value));
    match strict {
        Ok(strict) => {
            assert_eq!(strict.value, warned.value);
            assert!(
                warned.warnings.is_empty(),
                "warned of what is right: {:?}",
                warned.warnings
            );
        }
        Err(DecodeError::Strict(found)) => assert_eq!(found, warned.warnings),
        Err(other) => panic!("refused only when strict: {other}"),
    }
    let again = decode(builtin(), name, warned.value.clone(), FieldValidation::Strict);
    assert_eq!(
        again.map(|d| d.value),
        Ok(warned.value),
        "decoding what was decoded changes it"
    );
}

/// YAML means the JSON that it is turned into; what serde_yaml writes is read as it was meant, and its plain documents are read alike.
pub fn read_yaml(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else {
        return;
    };
    if which % 4 == 0 {
        let tree = Maker::new(rest).tree();
        if is_plain(&tree) {
            let text = serde_yaml_ng::to_string(&tree).expect("a tree is YAML");
            let read = yaml::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{e}: {text}"));
            assert_eq!(read.0, tree, "{text}");
        }
        return;
    }
    let Ok((tree, duplicates)) = yaml::parse(rest) else {
        return;
    };
    let as_json = serde_json::to_string(&tree).expect("a tree is JSON");
    assert_eq!(
        yaml::parse(as_json.as_bytes()).map(|read| read.0),
        Ok(tree.clone()),
        "{as_json}"
    );
    if let Ok(all) = yaml::parse_all(rest)
        && let Some(first) = all.first()
        && !tree.is_null()
    {
        assert_eq!(first, &tree, "the first of all documents is another one");
    }
    let text = std::str::from_utf8(rest).unwrap_or_default();
    let plain = |c: char| c == '\n' || (c.is_ascii_graphic() && !"%?!&*|>@`<'\"#".contains(c)) || c == ' ';
    if duplicates.is_empty()
        && text.chars().all(plain)
        && let Ok(other) = serde_yaml_ng::from_str::<Value>(text)
    {
        assert!(is_alike(&tree, &other), "serde_yaml reads {other}, not {tree}");
    }
}

/// Whether no text of a tree could be taken for something else.
fn is_plain(tree: &Value) -> bool {
    let text = |text: &str| !yaml::resolves(text) && !text.chars().any(char::is_control);
    match tree {
        Value::String(s) => text(s),
        // Numbers are read as Go's library reads them, which knows no floats without a fraction.
        Value::Number(n) => !n.is_f64(),
        Value::Array(items) => items.iter().all(is_plain),
        Value::Object(map) => map.iter().all(|(key, value)| text(key) && is_plain(value)),
        _ => true,
    }
}

/// Whether two trees have the same form and the same texts. Plain words mean different things to the two readers.
fn is_alike(ours: &Value, other: &Value) -> bool {
    match (ours, other) {
        (Value::Array(ours), Value::Array(other)) => {
            ours.len() == other.len() && ours.iter().zip(other).all(|(a, b)| is_alike(a, b))
        }
        (Value::Object(ours), Value::Object(other)) => {
            // Keys that are no texts are told otherwise.
            ours.len() == other.len()
                && ours
                    .values()
                    .zip(other.values())
                    .all(|(a, b)| is_alike(a, b) || ours.keys().ne(other.keys()))
        }
        (Value::String(ours), Value::String(other)) => ours == other,
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => false,
        _ => true,
    }
}

/// Protobuf that is read is written and read again, for every kind; a list in pieces is the list at once.
pub fn read_protobuf(data: &[u8]) {
    let mut maker = Maker::new(data);
    match maker.below(4) {
        0 => {
            let (kind, object) = maker.object();
            let bytes = protobuf::encode(builtin(), &kind.0, &kind.1, &object);
            let name = |_: &_| Some(kind.1.clone());
            let (read, back) = protobuf::decode(builtin(), &bytes, name).expect("what was written is read");
            assert_eq!(read, kind.0);
            assert_eq!(without_empties(back), without_empties(object));
        }
        1 => list_in_pieces(&mut maker),
        2 => envelope(maker.rest()),
        _ => {
            let kind = &KINDS[maker.below(KINDS.len())];
            let mut bytes = b"k8s\0".to_vec();
            let meta = [
                part(1, kind.0.api_version().as_bytes()),
                part(2, kind.0.kind.as_bytes()),
            ]
            .concat();
            bytes.extend(part(1, &meta));
            bytes.extend(part(2, maker.rest()));
            envelope(&bytes);
        }
    }
}

/// A field that holds bytes.
fn part(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

fn envelope(bytes: &[u8]) {
    let name = |kind: &rutter_api::GroupVersionKind| {
        let name = builtin().name_of_kind(&kind.group, &kind.version, &kind.kind);
        name.map(str::to_owned)
    };
    let Ok((kind, first)) = protobuf::decode(builtin(), bytes, name) else {
        return;
    };
    let type_name = name(&kind).expect("it was found before");
    let once = protobuf::encode(builtin(), &kind, &type_name, &first);
    let (_, second) = protobuf::decode(builtin(), &once, name).expect("what was written is read");
    assert_eq!(without_empties(second.clone()), without_empties(first));
    let twice = protobuf::encode(builtin(), &kind, &type_name, &second);
    let (_, third) = protobuf::decode(builtin(), &twice, name).expect("what was written is read");
    assert_eq!(third, second);
    assert_eq!(twice, protobuf::encode(builtin(), &kind, &type_name, &third));
}

fn list_in_pieces(maker: &mut Maker<'_>) {
    let kind = &crate::make::OBJECT_KINDS[maker.below(crate::make::OBJECT_KINDS.len())];
    let list = format!("{}List", kind.0.kind);
    let Some(name) = builtin().name_of_kind(&kind.0.group, &kind.0.version, &list) else {
        return;
    };
    let items: Vec<Value> = (0..maker.count(3)).map(|_| maker.object_of(kind)).collect();
    let metadata = serde_json::json!({"resourceVersion": "7"});
    let whole = serde_json::json!({"metadata": metadata, "items": items});
    let gvk = rutter_api::GroupVersionKind::new(&*kind.0.group, &*kind.0.version, &*list);
    let pieces: Vec<Vec<u8>> = items
        .iter()
        .map(|item| protobuf::encode_item(builtin(), &kind.1, item))
        .collect();
    let length = pieces.iter().map(Vec::len).sum();
    let (head, tail) = protobuf::list_envelope(builtin(), &gvk, &metadata, length);
    let joined = [head, pieces.concat(), tail].concat();
    assert_eq!(joined, protobuf::encode(builtin(), &gvk, name, &whole));
}
