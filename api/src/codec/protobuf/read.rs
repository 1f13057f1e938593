//! Reading messages.

use super::ParseError;
use crate::codec::{MAX_DEPTH, json};
use crate::duration;
use crate::schema::{Field, ListKind, Scalar, Struct, Type, TypeId, Types};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

/// One field as it is on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire<'b> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'b [u8]),
    Fixed32,
}

fn truncated() -> ParseError {
    ParseError("unexpected EOF".to_owned())
}

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, ParseError> {
    std::str::from_utf8(bytes).map_err(|_| ParseError("proto: invalid UTF-8 in a string".to_owned()))
}

fn varint(bytes: &mut &[u8]) -> Result<u64, ParseError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or_else(truncated)?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ParseError("proto: integer overflow".to_owned()))
}

fn take<'b>(bytes: &mut &'b [u8], count: usize) -> Result<&'b [u8], ParseError> {
    let (head, rest) = bytes.split_at_checked(count).ok_or_else(truncated)?;
    *bytes = rest;
    Ok(head)
}

/// The fields of a message in their order.
pub(super) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u32, Wire<'_>), ParseError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let field = one(&mut bytes);
        if field.is_err() {
            bytes = &[];
        }
        Some(field)
    })
}

fn one<'b>(bytes: &mut &'b [u8]) -> Result<(u32, Wire<'b>), ParseError> {
    let tag = varint(bytes)?;
    let number = u32::try_from(tag >> 3).ok().filter(|n| *n > 0);
    let number = number.ok_or_else(|| ParseError(format!("proto: illegal tag {}", tag >> 3)))?;
    let wire = match tag & 7 {
        0 => Wire::Varint(varint(bytes)?),
        1 => Wire::Fixed64(u64::from_le_bytes(
            take(bytes, 8)?.try_into().map_err(|_| truncated())?,
        )),
        2 => {
            let length = usize::try_from(varint(bytes)?).map_err(|_| truncated())?;
            Wire::Bytes(take(bytes, length)?)
        }
        5 => {
            take(bytes, 4)?;
            Wire::Fixed32
        }
        other => return Err(ParseError(format!("proto: illegal wireType {other}"))),
    };
    Ok((number, wire))
}

/// The object of a type from its body.
pub(super) fn message(types: &Types, id: TypeId, bytes: &[u8]) -> Result<Value, ParseError> {
    Reader { types }.message(id, bytes, 0)
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    types: &'a Types,
}

/// What a number means in a message.
enum Place<'a> {
    Field(&'a Field),
    /// A message whose fields JSON has inline.
    Inline,
    Unknown,
}

fn place<'a>(definition: &'a Struct, around: &[u16], number: u32) -> Place<'a> {
    let depth = around.len();
    for field in &definition.fields {
        let inside = field.inline.len() >= depth && field.inline.iter().zip(around).all(|((n, _), a)| n == a);
        if !inside {
            continue;
        }
        match field.inline.get(depth) {
            None if u32::from(field.number) == number => return Place::Field(field),
            Some((n, _)) if u32::from(*n) == number => return Place::Inline,
            _ => {}
        }
    }
    Place::Unknown
}

fn wrong_wire(field: &Field) -> ParseError {
    ParseError(format!("proto: wrong wireType for field {}", field.name))
}

impl Reader<'_> {
    fn message(self, id: TypeId, bytes: &[u8], depth: usize) -> Result<Value, ParseError> {
        if depth > MAX_DEPTH {
            return Err(ParseError("proto: exceeded max depth".to_owned()));
        }
        match self.types.get(id) {
            Type::Struct(definition) => {
                let mut map = Map::new();
                self.structure(definition, bytes, &mut Vec::new(), &mut map, depth)?;
                Ok(Value::Object(map))
            }
            Type::List(list) => {
                let mut items = Vec::new();
                for field in fields(bytes) {
                    if let (1, wire) = field? {
                        items.push(self.single(list.element, wire, depth)?.ok_or_else(truncated)?);
                    }
                }
                Ok(Value::Array(items))
            }
            Type::Scalar(scalar, _) => self.scalar_message(*scalar, bytes, depth),
            Type::Map(_) => Ok(Value::Null),
        }
    }

    fn structure(
        self,
        definition: &Struct,
        bytes: &[u8],
        around: &mut Vec<u16>,
        map: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ParseError> {
        for field in fields(bytes) {
            let (number, wire) = field?;
            match place(definition, around, number) {
                Place::Unknown => {}
                Place::Inline => {
                    let Wire::Bytes(bytes) = wire else {
                        return Err(ParseError("proto: wrong wireType for a message".to_owned()));
                    };
                    around.push(u16::try_from(number).unwrap_or_default());
                    self.structure(definition, bytes, around, map, depth)?;
                    around.pop();
                }
                Place::Field(field) => self.field(field, wire, map, depth)?,
            }
        }
        Ok(())
    }

    fn field(
        self,
        field: &Field,
        wire: Wire<'_>,
        map: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ParseError> {
        match (self.types.get(field.ty), wire) {
            (Type::List(list), wire) if list.wrapper.is_none() => {
                let slot = map
                    .entry(&*field.name)
                    .or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(items) = slot else { return Ok(()) };
                let packed = matches!(
                    self.types.get(list.element),
                    Type::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Bool, _)
                );
                match wire {
                    Wire::Bytes(mut bytes) if packed && list.kind != ListKind::Map => {
                        while !bytes.is_empty() {
                            let wire = Wire::Varint(varint(&mut bytes)?);
                            items.extend(self.single(list.element, wire, depth)?);
                        }
                    }
                    wire => items.push(
                        self.single(list.element, wire, depth)?
                            .ok_or_else(|| wrong_wire(field))?,
                    ),
                }
            }
            (Type::Map(map_type), Wire::Bytes(entry)) => {
                let (mut key, mut value) = (String::new(), None);
                for part in fields(entry) {
                    match part? {
                        (1, Wire::Bytes(text)) => key = utf8(text)?.to_owned(),
                        (2, wire) => value = self.single(map_type.value, wire, depth)?,
                        _ => {}
                    }
                }
                let slot = map
                    .entry(&*field.name)
                    .or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(entries) = slot {
                    // A null is brought into the form of an empty value when the object is decoded.
                    entries.insert(key, value.unwrap_or(Value::Null));
                }
            }
            (_, wire) => {
                let value = self
                    .single(field.ty, wire, depth)?
                    .ok_or_else(|| wrong_wire(field))?;
                map.insert(field.name.to_string(), value);
            }
        }
        Ok(())
    }

    /// One value; None when it is on the wire in another way than its type is.
    fn single(self, id: TypeId, wire: Wire<'_>, depth: usize) -> Result<Option<Value>, ParseError> {
        Ok(Some(match (self.types.get(id), wire) {
            (Type::Scalar(Scalar::String, _), Wire::Bytes(bytes)) => Value::from(utf8(bytes)?),
            (Type::Scalar(Scalar::Bytes, _), Wire::Bytes(bytes)) => Value::from(STANDARD.encode(bytes)),
            (Type::Scalar(Scalar::Bool, _), Wire::Varint(n)) => Value::Bool(n != 0),
            (Type::Scalar(Scalar::Int32, _), Wire::Varint(n)) => Value::from(n as i32),
            (Type::Scalar(Scalar::Int64, _), Wire::Varint(n)) => Value::from(n as i64),
            (Type::Scalar(Scalar::Double, _), Wire::Fixed64(bits)) => {
                Number::from_f64(f64::from_bits(bits)).map_or(Value::Null, Value::Number)
            }
            (
                Type::Scalar(
                    Scalar::String
                    | Scalar::Bytes
                    | Scalar::Bool
                    | Scalar::Int32
                    | Scalar::Int64
                    | Scalar::Double,
                    _,
                ),
                _,
            ) => return Ok(None),
            (_, Wire::Bytes(bytes)) => self.message(id, bytes, depth + 1)?,
            (_, Wire::Varint(_) | Wire::Fixed64(_) | Wire::Fixed32) => return Ok(None),
        }))
    }

    fn scalar_message(self, scalar: Scalar, bytes: &[u8], depth: usize) -> Result<Value, ParseError> {
        let (mut integers, mut texts) = ([0i64; 4], [None::<&[u8]>; 4]);
        let mut repeated: Vec<&[u8]> = Vec::new();
        for field in fields(bytes) {
            match field? {
                (n @ 1..=3, Wire::Varint(value)) => integers[n as usize] = value as i64,
                (n @ 1..=3, Wire::Bytes(value)) => {
                    texts[n as usize] = Some(value);
                    if n == 2 {
                        repeated.push(value);
                    }
                }
                _ => {}
            }
        }
        let schema = |bytes: &[u8]| match self.types.find(crate::schema::SCHEMA_PROPS) {
            Some(id) => self.message(id, bytes, depth + 1),
            None => Ok(Value::Null),
        };
        Ok(match scalar {
            // An empty message is the zero time.
            Scalar::Time | Scalar::MicroTime if bytes.is_empty() => Value::Null,
            Scalar::Time | Scalar::MicroTime => {
                let nanos = i32::try_from(integers[2]).unwrap_or_default();
                let time = Timestamp::new(integers[1], nanos)
                    .map_err(|_| ParseError("proto: time out of range".to_owned()))?;
                Value::from(duration::format_time(time, scalar == Scalar::MicroTime))
            }
            Scalar::Duration => Value::from(duration::format_go(integers[1])),
            Scalar::Quantity => match utf8(texts[1].unwrap_or_default())? {
                "" => Value::from("0"),
                text => Value::from(text),
            },
            Scalar::IntOrString if integers[1] == 1 => Value::from(utf8(texts[3].unwrap_or_default())?),
            Scalar::IntOrString => Value::from(integers[2] as i32),
            Scalar::RawExtension | Scalar::FieldsV1 | Scalar::Json => match texts[1] {
                None | Some([]) => Value::Null,
                Some(bytes) => json::parse(bytes)?.0,
            },
            Scalar::SchemaOrBool => match texts[2] {
                Some(bytes) => schema(bytes)?,
                None => Value::Bool(integers[1] != 0),
            },
            Scalar::SchemaOrArray => match texts[1] {
                Some(bytes) => schema(bytes)?,
                None => Value::Array(repeated.into_iter().map(schema).collect::<Result<_, _>>()?),
            },
            Scalar::SchemaOrStringArray => match texts[1] {
                Some(bytes) => schema(bytes)?,
                None => {
                    let items = repeated.into_iter().map(|bytes| utf8(bytes).map(Value::from));
                    Value::Array(items.collect::<Result<_, _>>()?)
                }
            },
            Scalar::String
            | Scalar::Bool
            | Scalar::Int32
            | Scalar::Int64
            | Scalar::Double
            | Scalar::Bytes => Value::Null,
        })
    }
}
