//! What an expression may refer to: variables and the types of objects. Functions are the same everywhere.

use crate::ast::Ast;
use crate::check::{Checked, check};
use crate::parse::parse;
use crate::schema::Schema;
use crate::source::Issues;
use crate::types::Type;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The fields of an object type.
#[derive(Clone, Debug)]
enum Fields {
    Schema(Arc<Schema>),
    Types(Arc<BTreeMap<Box<str>, Type>>),
}

/// What an expression may refer to.
#[derive(Clone, Debug, Default)]
pub struct Env {
    variables: Vec<(Arc<str>, Type)>,
    objects: HashMap<Arc<str>, Fields, ahash::RandomState>,
    /// Names under which objects may be made, as `Object.spec{...}`.
    constructors: Option<Arc<dyn Constructors>>,
    /// Whether there is `cel.bind`.
    bindings: bool,
}

/// Objects that expressions may make, such as `Object{...}` of mutating policies.
pub trait Constructors: Send + Sync + std::fmt::Debug {
    /// Whether there is a type of the name.
    fn has(&self, name: &str) -> bool;

    /// The type of a field of the type of the name; none when it has no such field.
    fn field(&self, name: &str, field: &str) -> Option<Type>;
}

impl Env {
    /// An environment without variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a variable of a type. Its number is that of the call, counted from 0.
    #[must_use]
    pub fn with(mut self, name: &str, ty: Type) -> Self {
        self.variables.push((name.into(), ty));
        self
    }

    /// With a variable whose values a schema describes.
    #[must_use]
    pub fn with_schema(mut self, name: &str, schema: &Schema) -> Self {
        self.declare(schema);
        self.with(name, schema.ty())
    }

    /// With a variable that is an object of a type of the name with these fields, which may change what there was.
    #[must_use]
    pub fn with_fields(mut self, name: &str, ty: &str, fields: &BTreeMap<Box<str>, Type>) -> Self {
        self.objects
            .insert(ty.into(), Fields::Types(Arc::new(fields.clone())));
        match self.variables.iter().any(|(known, _)| **known == *name) {
            true => self,
            false => self.with(name, Type::object(ty)),
        }
    }

    /// Without a variable, whose number stays taken.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        for (known, _) in &mut self.variables {
            if **known == *name {
                *known = Arc::default();
            }
        }
        self
    }

    /// With objects that may be made, and with the functions that only changes need.
    #[must_use]
    pub fn with_constructors(mut self, constructors: Arc<dyn Constructors>) -> Self {
        self.constructors = Some(constructors);
        self
    }

    /// With `cel.bind(name, value, expression)`, which only expressions about devices have.
    #[must_use]
    pub fn with_bindings(mut self) -> Self {
        self.bindings = true;
        self
    }

    /// Makes the types of a schema known, for variables that hold such values.
    pub fn declare(&mut self, schema: &Schema) {
        schema.each_object(&mut |name, object| {
            self.objects
                .insert(name.clone(), Fields::Schema(Arc::new(object.clone())));
        });
    }

    /// Parses and checks an expression.
    pub fn compile(&self, source: &str) -> Result<Checked, Issues> {
        let ast: Ast = parse(source, self.bindings)?;
        check(self, source, ast)
    }

    /// Parses and checks an expression that must be of one of these types; what is wrong is told as a field error's detail tells it.
    pub fn compile_as(&self, source: &str, wanted: &[Type]) -> Result<Checked, String> {
        let checked = self
            .compile(source)
            .map_err(|issues| format!("compilation failed: {issues}"))?;
        let found = checked.output();
        if !wanted.contains(found) {
            return Err(match wanted {
                [one] => format!("must evaluate to {} but got {}", declared(one), declared(found)),
                several => {
                    let several: Vec<String> = several.iter().map(declared).collect();
                    format!(
                        "must evaluate to one of [{}] but got {}",
                        several.join(" "),
                        declared(found)
                    )
                }
            });
        }
        match checked.program().broken() {
            Some(why) => Err(format!("program instantiation failed: {why}")),
            None => Ok(checked),
        }
    }

    pub(crate) fn variable(&self, name: &str) -> Option<(usize, &Type)> {
        let found = self.variables.iter().position(|(n, _)| n.as_ref() == name)?;
        Some((found, &self.variables[found].1))
    }

    /// The names of the variables, in their order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|(name, _)| name.as_ref())
    }

    pub(crate) fn is_mutating(&self) -> bool {
        self.constructors.is_some()
    }

    pub(crate) fn can_make(&self, name: &str) -> bool {
        self.constructors.as_ref().is_some_and(|c| c.has(name))
    }

    /// The type of a field of an object type: None when there is no such type, Some(None) when it has no such field.
    pub(crate) fn field(&self, object: &str, field: &str) -> Option<Option<Type>> {
        match self.objects.get(object) {
            Some(Fields::Schema(schema)) => return Some(schema.field(field).map(|f| f.schema.ty())),
            Some(Fields::Types(types)) => return Some(types.get(field).cloned()),
            None => {}
        }
        self.can_make(object)
            .then(|| self.constructors.as_ref().and_then(|c| c.field(object, field)))
    }
}

/// A type as it is declared, which is how messages about whole expressions name it.
fn declared(ty: &Type) -> String {
    match ty {
        Type::Null | Type::Duration | Type::Timestamp => ty.name().to_owned(),
        other => other.to_string(),
    }
}
