//! Tables over the plan.
