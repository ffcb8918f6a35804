//! Work on bodies, apart from who asks for it: JSON tokens today.

pub mod json;
