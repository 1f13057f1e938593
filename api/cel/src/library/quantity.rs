//! Quantities.

use super::{Authorizations, Functions, int_of, native_of, object};
use crate::error::{EvalError, Result};
use crate::types::Type;
use crate::value::{Native, Value, as_text};
use rutter_api::Quantity;
use rutter_api::quantity::Format;
use std::cmp::Ordering;

pub(super) fn declare(f: &mut Functions) {
    use Type::{Bool, Double, Int, String};
    let q = || object(Native::QUANTITY);
    f.global(
        "quantity",
        "string_to_quantity",
        &[String],
        q(),
        |_: &dyn Authorizations, args| {
            let parsed: std::result::Result<Quantity, _> = as_text(&args[0])?.parse();
            parsed.map(made).map_err(|e| EvalError::new(e.to_string()))
        },
    );
    f.global("isQuantity", "is_quantity_string", &[String], Bool, |_, args| {
        Ok(Value::Bool(as_text(&args[0])?.parse::<Quantity>().is_ok()))
    });
    f.global("sign", "quantity_sign", &[q()], Int, |_, args| {
        let quantity = of(&args[0])?;
        Ok(Value::Int(if quantity.is_zero() {
            0
        } else if quantity.is_negative() {
            -1
        } else {
            1
        }))
    });
    f.member(
        "isGreaterThan",
        "quantity_is_greater_than",
        &[q(), q()],
        Bool,
        |_, args| Ok(Value::Bool(order(args)? == Ordering::Greater)),
    );
    f.member(
        "isLessThan",
        "quantity_is_less_than",
        &[q(), q()],
        Bool,
        |_, args| Ok(Value::Bool(order(args)? == Ordering::Less)),
    );
    f.member("compareTo", "quantity_compare_to", &[q(), q()], Int, |_, args| {
        Ok(Value::Int(order(args)? as i64))
    });
    f.member(
        "asApproximateFloat",
        "quantity_get_float",
        &[q()],
        Double,
        |_, args| Ok(Value::Double(of(&args[0])?.as_f64())),
    );
    f.member(
        "asInteger",
        "quantity_get_int",
        &[q()],
        Int,
        |_, args| match of(&args[0])? {
            whole if whole.is_integer() => Ok(Value::Int(whole.value())),
            _ => Err(EvalError::new("cannot convert value to integer")),
        },
    );
    f.member("isInteger", "quantity_is_integer", &[q()], Bool, |_, args| {
        Ok(Value::Bool(of(&args[0])?.is_integer()))
    });
    f.member("add", "quantity_add", &[q(), q()], q(), |_, args| {
        Ok(made(of(&args[0])? + of(&args[1])?))
    });
    f.member("add", "quantity_add_int", &[q(), Int], q(), |_, args| {
        Ok(made(
            of(&args[0])? + Quantity::new(int_of(&args[1])?, Format::DecimalExponent),
        ))
    });
    f.member("sub", "quantity_sub", &[q(), q()], q(), |_, args| {
        Ok(made(of(&args[0])? - of(&args[1])?))
    });
    f.member("sub", "quantity_sub_int", &[q(), Int], q(), |_, args| {
        Ok(made(
            of(&args[0])? - Quantity::new(int_of(&args[1])?, Format::DecimalExponent),
        ))
    });
}

fn made<'a>(quantity: Quantity) -> Value<'a> {
    Value::Native(Native::Quantity(quantity))
}

fn of(value: &Value<'_>) -> Result<Quantity> {
    match native_of(value)? {
        Native::Quantity(quantity) => Ok(*quantity),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn order(args: &[Value<'_>]) -> Result<Ordering> {
    Ok(of(&args[0])?.cmp(&of(&args[1])?))
}
