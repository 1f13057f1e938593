//! Lists as sets.

use super::{A, Functions, list_of};
use crate::error::Result;
use crate::types::Type;
use crate::value::{List, Value, equal};

pub(super) fn declare(f: &mut Functions) {
    let lists = [Type::list(A), Type::list(A)];
    f.global(
        "sets.contains",
        "list_sets_contains_list",
        &lists,
        Type::Bool,
        |_, args| contains_all(list_of(&args[0])?, list_of(&args[1])?).map(Value::Bool),
    );
    f.global(
        "sets.equivalent",
        "list_sets_equivalent_list",
        &lists,
        Type::Bool,
        |_, args| {
            let (a, b) = (list_of(&args[0])?, list_of(&args[1])?);
            Ok(Value::Bool(contains_all(a, b)? && contains_all(b, a)?))
        },
    );
    f.global(
        "sets.intersects",
        "list_sets_intersects_list",
        &lists,
        Type::Bool,
        |_, args| {
            let others = list_of(&args[1])?.to_vec()?;
            for item in list_of(&args[0])?.iter() {
                let item = item?;
                if others.iter().any(|other| equal(other, &item)) {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        },
    );
}

fn contains_all(list: &List<'_>, wanted: &List<'_>) -> Result<bool> {
    let items = list.to_vec()?;
    for item in wanted.iter() {
        let item = item?;
        if !items.iter().any(|known| equal(known, &item)) {
            return Ok(false);
        }
    }
    Ok(true)
}
