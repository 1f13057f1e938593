//! From the claims of a verified token to a user: a pure function of the configuration.

use super::config::{Compiled, Mapping};
use crate::cel::Expression;
use jiff::{SignedDuration, Timestamp};
use rutter_api::{UserInfo, Value};
use serde_json::json;

/// The extra key that names the token.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
/// How far ahead of our clock an issuer's may be.
const LEEWAY: SignedDuration = SignedDuration::from_mins(5);

/// Checks what every token must hold: its audience and its times. The issuer and the signature are checked before.
///
/// # Errors
/// Why it is not good.
pub fn check(claims: &Value, audiences: &[String], now: Timestamp) -> Result<(), String> {
    let held = strings(&claims["aud"]).unwrap_or_default();
    if !held.iter().any(|audience| audiences.contains(audience)) {
        return Err(format!("expected audience in {audiences:?} got {held:?}"));
    }
    // NumericDate may have a fraction.
    let time = |key: &str| claims.get(key).and_then(Value::as_f64);
    let seconds = now.as_second() as f64;
    match time("exp") {
        None => return Err("token has no expiry".to_owned()),
        Some(end) if seconds > end => {
            let end = Timestamp::from_second(end as i64).unwrap_or_default();
            return Err(format!("token is expired (Token Expiry: {end})"));
        }
        Some(_) => {}
    }
    let latest = (now + LEEWAY).as_second() as f64;
    if time("nbf").is_some_and(|begin| begin > latest) {
        return Err("current time is before the nbf (not before) time".to_owned());
    }
    Ok(())
}

/// The user that the claims are about.
///
/// # Errors
/// Which mapping or rule failed, and how.
pub fn user(compiled: &Compiled, claims: &Value) -> Result<UserInfo, String> {
    let mappings = &compiled.config.claim_mappings;
    let mut user = UserInfo {
        name: username(compiled, claims)?,
        groups: groups(compiled, claims)?,
        uid: match &compiled.uid {
            Some(expression) => text_of(expression, claims, "uid")?,
            None if mappings.uid.claim.is_empty() => String::new(),
            None => text_claim(claims, &mappings.uid.claim)
                .map_err(|why| format!("parse uid claim {:?}: {why}", mappings.uid.claim))?,
        },
        ..UserInfo::default()
    };
    if let Some(id) = claims
        .get("jti")
        .and_then(Value::as_str)
        .filter(|id| !id.is_empty())
    {
        user.extra
            .insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={id}")]);
    }
    for (key, expression) in &compiled.extra {
        let failed = |why| {
            format!(
                "error evaluating extra claim expression: {}: {why}",
                expression.text()
            )
        };
        let values = expression.evaluate(claims).map_err(failed)?;
        let values = list_of(&values).map_err(failed)?;
        if !values.is_empty() {
            user.extra.insert(key.clone(), values);
        }
    }
    for rule in &compiled.config.claim_validation_rules {
        let claim = &rule.claim;
        if claim.is_empty() {
            continue;
        }
        if claims.get(claim).is_none() {
            return Err(format!("required claim {claim} not present in ID token"));
        }
        let got = text_claim(claims, claim).map_err(|why| format!("parse claim {claim}: {why}"))?;
        if got != rule.required_value {
            let want = &rule.required_value;
            return Err(format!(
                "required claim {claim} value does not match. Got = {got}, want = {want}"
            ));
        }
    }
    hold(&compiled.claim_rules, claims, "claim validation expression")?;
    if !compiled.user_rules.is_empty() {
        let all = json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra});
        hold(&compiled.user_rules, &all, "user info validation rule")?;
    }
    Ok(user)
}

fn username(compiled: &Compiled, claims: &Value) -> Result<String, String> {
    if let Some(expression) = &compiled.username {
        let name = text_of(expression, claims, "username")?;
        if name.is_empty() {
            return Err("empty username via CEL expression is not allowed".to_owned());
        }
        return Ok(name);
    }
    let Mapping { claim, prefix, .. } = &compiled.config.claim_mappings.username;
    let name = text_claim(claims, claim).map_err(|why| format!("parse username claims {claim:?}: {why}"))?;
    if claim == "email" {
        match claims.get("email_verified") {
            None | Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Err("email not verified".to_owned()),
            Some(_) => return Err("parse 'email_verified' claim: it is not a boolean".to_owned()),
        }
    }
    Ok(format!("{}{name}", prefix.as_deref().unwrap_or_default()))
}

fn groups(compiled: &Compiled, claims: &Value) -> Result<Vec<String>, String> {
    if let Some(expression) = &compiled.groups {
        let failed = |why| format!("error evaluating group claim expression: {why}");
        return list_of(&expression.evaluate(claims).map_err(failed)?).map_err(failed);
    }
    let Mapping { claim, prefix, .. } = &compiled.config.claim_mappings.groups;
    let Some(value) = claims.get(claim).filter(|_| !claim.is_empty()) else {
        return Ok(Vec::new());
    };
    let groups = strings(value).ok_or_else(|| {
        format!("parse groups claim {claim:?}: it is neither a string nor a list of strings")
    })?;
    let prefix = prefix.as_deref().unwrap_or_default();
    Ok(groups
        .into_iter()
        .map(|group| format!("{prefix}{group}"))
        .collect())
}

fn text_of(expression: &Expression, claims: &Value, what: &str) -> Result<String, String> {
    let failed = |why: &str| format!("error evaluating {what} claim expression: {why}");
    match expression.evaluate(claims).map_err(|why| failed(&why))? {
        Value::String(text) => Ok(text),
        _ => Err(failed(&format!("{what} claim expression must return a string"))),
    }
}

fn text_claim(claims: &Value, claim: &str) -> Result<String, &'static str> {
    match claims.get(claim) {
        None => Err("claim not present"),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err("it is not a string"),
    }
}

/// A text or a list of texts.
fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(many) => many.iter().map(|v| v.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// What an expression gave as a list; what is empty is not there.
fn list_of(value: &Value) -> Result<Vec<String>, String> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    let mut list =
        strings(value).ok_or_else(|| "expression must return a string or a list of strings".to_owned())?;
    list.retain(|text| !text.is_empty());
    Ok(list)
}

fn hold(rules: &[(Expression, String)], of: &Value, what: &str) -> Result<(), String> {
    for (expression, message) in rules {
        let failed = |why: &str| format!("error evaluating {what}: {why}");
        match expression.evaluate(of).map_err(|why| failed(&why))? {
            Value::Bool(true) => {}
            Value::Bool(false) => {
                let text = expression.text();
                return Err(failed(&format!(
                    "validation expression '{text}' failed: {message}"
                )));
            }
            _ => return Err(failed("validation expression must return a boolean")),
        }
    }
    Ok(())
}

/// Where a claim that isn't in the token itself is fetched (OpenID Connect Core, 5.6.2): the address, and a token for it.
///
/// # Errors
/// When the token's hints at it are broken.
pub fn distributed<'a>(claims: &'a Value, claim: &str) -> Result<Option<(&'a str, &'a str)>, String> {
    if claim.is_empty() || claims.get(claim).is_some() {
        return Ok(None);
    }
    let Some(names) = claims.get("_claim_names") else {
        return Ok(None);
    };
    let names = names.as_object().ok_or("error parsing distributed claim names")?;
    let sources = claims.get("_claim_sources").ok_or("no claim sources")?;
    let Some(source) = names.get(claim).and_then(Value::as_str) else {
        return Ok(None);
    };
    let Some(found) = sources.get(source) else {
        return Err(format!(
            "id token _claim_names contained a source {source} missing in _claims_sources"
        ));
    };
    let text = |key: &str| found.get(key).and_then(Value::as_str).unwrap_or_default();
    let endpoint = text("endpoint");
    Ok((!endpoint.is_empty()).then(|| (endpoint, text("access_token"))))
}

#[cfg(test)]
mod tests {
    use super::super::config::JwtAuthenticator;
    use super::*;

    fn compiled(mappings: Value, rules: Value) -> Compiled {
        let config: JwtAuthenticator = serde_json::from_value(json!({
            "issuer": {"url": "https://issuer.example", "audiences": ["cluster"]},
            "claimMappings": mappings, "claimValidationRules": rules,
        }))
        .unwrap();
        let mut errors = Vec::new();
        let compiled = config.compile(&rutter_api::Path::new("jwt"), &[], &mut errors);
        assert!(errors.is_empty(), "{errors:?}");
        compiled
    }

    #[test]
    fn claims_become_a_user_as_configured() {
        let by = |claim: &str, prefix: &str| json!({"claim": claim, "prefix": prefix});
        let jane = json!({"sub": "jane", "groups": ["a", "b"], "role": "c", "n": 1, "email": "j@x",
                          "email_verified": true, "hd": "example.com", "jti": "7"});
        // mappings, rules, claims changed, name and groups; or a part of the refusal
        type Row = (
            Value,
            Value,
            Value,
            Result<(&'static str, Vec<&'static str>), &'static str>,
        );
        #[rustfmt::skip]
        let table: Vec<Row> = vec![
            (json!({"username": by("sub", "")}), json!([]), json!({}), Ok(("jane", vec![]))),
            (json!({"username": by("sub", "x:"), "groups": by("groups", "g:")}), json!([]), json!({}), Ok(("x:jane", vec!["g:a", "g:b"]))),
            (json!({"username": by("sub", ""), "groups": by("role", "")}), json!([]), json!({}), Ok(("jane", vec!["c"]))),
            (json!({"username": by("sub", ""), "groups": by("none", "")}), json!([]), json!({}), Ok(("jane", vec![]))),
            (json!({"username": by("sub", ""), "groups": by("n", "")}), json!([]), json!({}), Err("parse groups claim \"n\"")),
            (json!({"username": by("none", "")}), json!([]), json!({}), Err("parse username claims \"none\": claim not present")),
            (json!({"username": by("n", "")}), json!([]), json!({}), Err("it is not a string")),
            (json!({"username": by("email", "")}), json!([]), json!({}), Ok(("j@x", vec![]))),
            (json!({"username": by("email", "")}), json!([]), json!({"email_verified": false}), Err("email not verified")),
            (json!({"username": by("sub", "")}), json!([{"claim": "hd", "requiredValue": "example.com"}]), json!({}), Ok(("jane", vec![]))),
            (json!({"username": by("sub", "")}), json!([{"claim": "hd", "requiredValue": "other.com"}]), json!({}), Err("value does not match")),
            (json!({"username": {"expression": "'x:' + claims.sub"}, "groups": {"expression": "claims.groups.filter(g, g != 'b')"}}), json!([]), json!({}), Ok(("x:jane", vec!["a"]))),
            (json!({"username": {"expression": "claims.n"}}), json!([]), json!({}), Err("must return a string")),
            (json!({"username": by("sub", "")}), json!([{"expression": "claims.hd == 'other.com'", "message": "only others"}]), json!({}), Err("failed: only others")),
            (json!({"username": by("sub", "")}), json!([{"claim": "no", "requiredValue": ""}]), json!({}), Err("required claim no not present")),
        ];
        for (mappings, rules, change, want) in table {
            let mut claims = jane.clone();
            claims
                .as_object_mut()
                .unwrap()
                .extend(change.as_object().unwrap().clone());
            let got = user(&compiled(mappings.clone(), rules.clone()), &claims);
            match (&got, want) {
                (Ok(user), Ok((name, groups))) => {
                    assert_eq!(
                        (user.name.as_str(), &user.groups),
                        (name, &groups.iter().map(|g| (*g).to_owned()).collect())
                    );
                    assert_eq!(user.extra[CREDENTIAL_ID], ["JTI=7"]);
                }
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                _ => panic!("{mappings} {rules}: {got:?}"),
            }
        }
    }

    #[test]
    fn a_token_is_good_for_its_audience_in_its_time() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let at = |seconds: i64| now.as_second() + seconds;
        let audiences = ["cluster".to_owned(), "other".to_owned()];
        for (claims, part) in [
            (json!({"aud": "cluster", "exp": at(1)}), ""),
            (json!({"aud": ["x", "other"], "exp": at(1), "nbf": at(299)}), ""),
            (json!({"aud": ["x"], "exp": at(1)}), "expected audience"),
            (json!({"exp": at(1)}), "expected audience"),
            (json!({"aud": "cluster", "exp": at(-1)}), "token is expired"),
            (json!({"aud": "cluster"}), "no expiry"),
            (json!({"aud": "cluster", "exp": at(999), "nbf": at(301)}), "nbf"),
        ] {
            match check(&claims, &audiences, now) {
                Ok(()) => assert!(part.is_empty(), "{claims}"),
                Err(why) => assert!(!part.is_empty() && why.contains(part), "{claims}: {why}"),
            }
        }
    }

    #[test]
    fn claims_elsewhere_are_found_where_the_token_says() {
        let sources =
            json!({"s": {"endpoint": "https://a/g", "access_token": "t"}, "aggregated": {"JWT": "x"}});
        for (claims, want) in [
            (json!({"groups": []}), Ok(None)),
            (json!({}), Ok(None)),
            (
                json!({"_claim_names": {"other": "s"}, "_claim_sources": sources}),
                Ok(None),
            ),
            (
                json!({"_claim_names": {"groups": "s"}, "_claim_sources": sources}),
                Ok(Some(("https://a/g", "t"))),
            ),
            (
                json!({"_claim_names": {"groups": "aggregated"}, "_claim_sources": sources}),
                Ok(None),
            ),
            (json!({"_claim_names": {"groups": "s"}}), Err("no claim sources")),
            (
                json!({"_claim_names": {"groups": "z"}, "_claim_sources": sources}),
                Err("contained a source z"),
            ),
        ] {
            match (distributed(&claims, "groups"), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{claims}"),
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                (got, _) => panic!("{claims}: {got:?}"),
            }
        }
    }
}
