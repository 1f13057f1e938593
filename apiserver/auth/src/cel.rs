//! Expressions of the configuration files: compiled once, evaluated for every token or question.

use rutter_api::Value;
use rutter_cel::{Env, NoAuthorizations, PER_CALL_LIMIT, Program, Schema, Type, Value as CelValue};

/// What an expression is about: its one variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `claims`: what a token says.
    Claims,
    /// `user`: who a token is about.
    User,
    /// `request`: the `spec` of a SubjectAccessReview.
    Request,
}

impl Variable {
    fn name(self) -> &'static str {
        match self {
            Self::Claims => "claims",
            Self::User => "user",
            Self::Request => "request",
        }
    }

    /// What is known of its values before they are there.
    fn schema(self) -> Schema {
        let text = Schema::STRING;
        let texts = Schema::list(text.clone());
        let extra = Schema::map(texts.clone());
        let said = |names: &[&'static str]| -> Vec<(&'static str, Schema)> {
            names.iter().map(|name| (*name, Schema::STRING)).collect()
        };
        match self {
            Self::Claims => Schema::map(Schema::ANY),
            Self::User => {
                let mut fields = said(&["username", "uid"]);
                fields.extend([("groups", texts), ("extra", extra)]);
                Schema::object("kubernetes.UserInfo", &fields)
            }
            Self::Request => {
                let selector = |kind: &str| {
                    let mut fields = said(&["key", "operator"]);
                    fields.push(("values", texts.clone()));
                    let requirement = Schema::object(&format!("kubernetes.{kind}Requirement"), &fields);
                    let fields = [
                        ("rawSelector", Schema::STRING),
                        ("requirements", Schema::list(requirement)),
                    ];
                    Schema::object(&format!("kubernetes.{kind}Attributes"), &fields)
                };
                let names = [
                    "namespace",
                    "verb",
                    "group",
                    "version",
                    "resource",
                    "subresource",
                    "name",
                ];
                let mut resource = said(&names);
                resource.extend([
                    ("fieldSelector", selector("FieldSelector")),
                    ("labelSelector", selector("LabelSelector")),
                ]);
                let other = Schema::object("kubernetes.NonResourceAttributes", &said(&["path", "verb"]));
                let mut spec = said(&["user", "uid"]);
                spec.extend([
                    ("groups", texts.clone()),
                    ("extra", extra),
                    (
                        "resourceAttributes",
                        Schema::object("kubernetes.ResourceAttributes", &resource),
                    ),
                    ("nonResourceAttributes", other),
                ]);
                Schema::object("kubernetes.SubjectAccessReviewSpec", &spec)
            }
        }
    }
}

/// What an expression must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever it is: what a claim is, is known only when it is there.
    Anything,
    /// True or false.
    Bool,
}

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    text: String,
    program: Program,
    schema: Schema,
}

impl Expression {
    /// Compiles a text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile(text: &str, about: Variable, wanted: Wanted) -> Result<Self, String> {
        let schema = about.schema();
        let environment = Env::new().with_schema(about.name(), &schema);
        let checked = environment
            .compile(text)
            .map_err(|issues| format!("compilation failed: {issues}"))?;
        let fits = match wanted {
            Wanted::Anything => true,
            Wanted::Bool => matches!(checked.output(), Type::Bool | Type::Dyn),
        };
        if !fits {
            return Err("must evaluate to bool".to_owned());
        }
        Ok(Self {
            text: text.to_owned(),
            program: checked.program(),
            schema,
        })
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its value over the variable's.
    ///
    /// # Errors
    /// Why it has none.
    pub fn evaluate(&self, of: &Value) -> Result<Value, String> {
        let variable = CelValue::typed(of, &self.schema).map_err(|error| error.to_string())?;
        let outcome = self
            .program
            .evaluate(&[Some(variable)], &NoAuthorizations, PER_CALL_LIMIT);
        let value = outcome.value.map_err(|error| error.to_string())?;
        value.to_json().map_err(|error| error.to_string())
    }

    /// Whether it reads `variable.field`, or `variable.?field`.
    pub fn selects(&self, variable: &str, field: &str) -> bool {
        let words = words(&self.text);
        let mut at = words.iter().enumerate().filter(|(_, word)| *word == variable);
        at.any(|(index, _)| {
            let before = index.checked_sub(1).and_then(|before| words.get(before));
            let mut after = words.iter().skip(index + 1);
            let dot = after.next().is_some_and(|word| word == ".");
            let next = after.next();
            let next = if next.is_some_and(|word| word == "?") {
                after.next()
            } else {
                next
            };
            before.is_none_or(|word| word != ".") && dot && next.is_some_and(|word| word == field)
        })
    }
}

/// The names and signs of an expression, without what it quotes.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut in_word = false;
    let mut quote = None;
    let mut escaped = false;
    for character in text.chars() {
        if let Some(open) = quote {
            if character == open && !escaped {
                quote = None;
            }
            escaped = character == '\\' && !escaped;
            continue;
        }
        if matches!(character, '"' | '\'') {
            quote = Some(character);
            in_word = false;
        } else if character.is_alphanumeric() || character == '_' {
            match words.last_mut().filter(|_| in_word) {
                Some(word) => word.push(character),
                None => words.push(character.to_string()),
            }
            in_word = true;
        } else {
            in_word = false;
            if !character.is_whitespace() {
                words.push(character.to_string());
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expressions_are_compiled_against_what_they_are_about_and_evaluated() {
        use Variable::{Claims, Request, User};
        let claims = json!({"sub": "jane", "roles": ["a", "b"], "n": 1, "nested": {"ok": true}});
        let user = json!({"username": "jane", "uid": "", "groups": ["dev"], "extra": {"k": ["v"]}});
        let request = json!({"user": "jane", "uid": "", "groups": [], "extra": {},
                             "resourceAttributes": {"namespace": "kube-system", "verb": "get"}});
        // text, about, wanted, the value; or a part of the refusal to compile or to evaluate
        #[rustfmt::skip]
        let table = [
            ("'x:' + claims.sub", Claims, Wanted::Anything, Ok(json!("x:jane"))),
            ("claims.roles.map(r, 'g:' + r)", Claims, Wanted::Anything, Ok(json!(["g:a", "g:b"]))),
            ("claims.?email.orValue('none')", Claims, Wanted::Anything, Ok(json!("none"))),
            ("claims.nested.ok", Claims, Wanted::Bool, Ok(json!(true))),
            ("claims.email", Claims, Wanted::Anything, Err("no such key")),
            ("claims.sub +", Claims, Wanted::Anything, Err("compilation failed")),
            ("user.username.startsWith('j')", User, Wanted::Bool, Ok(json!(true))),
            ("user.extra['k'][0] == 'v' && !user.groups.exists(g, g.startsWith('system:'))", User, Wanted::Bool, Ok(json!(true))),
            ("user.nickname == ''", User, Wanted::Bool, Err("undefined field")),
            ("user.username", User, Wanted::Bool, Err("must evaluate to bool")),
            ("has(request.resourceAttributes) && request.resourceAttributes.namespace == 'kube-system'", Request, Wanted::Bool, Ok(json!(true))),
            ("has(request.nonResourceAttributes)", Request, Wanted::Bool, Ok(json!(false))),
            ("other == 1", Request, Wanted::Bool, Err("undeclared reference")),
        ];
        for (text, about, wanted, want) in table {
            let of = match about {
                Claims => &claims,
                User => &user,
                Request => &request,
            };
            let got = Expression::compile(text, about, wanted).and_then(|made| made.evaluate(of));
            match (&got, &want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{text}"),
                (Err(why), Err(part)) => assert!(why.contains(part), "{text}: {why}"),
                _ => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn what_an_expression_reads_is_found_outside_of_quotes() {
        for (text, want) in [
            ("claims.email", true),
            ("claims . ?email.orValue('')", true),
            ("claims.email_verified", false),
            ("'claims.email' + claims.sub", false),
            ("x.claims.email", false),
            ("claims.sub + claims.email", true),
        ] {
            let expression = Expression {
                text: text.to_owned(),
                ..Expression::compile("true", Variable::Claims, Wanted::Bool).unwrap()
            };
            assert_eq!(expression.selects("claims", "email"), want, "{text}");
        }
    }
}
