//! `check`: the configuration has no problems, or it would not have been loaded; shows it when
//! asked to.
use super::render;
use crate::config::{Config, effective};

pub(super) fn check(config: &Config, print: bool) {
    if print {
        render::data(&effective(config));
    } else {
        render::note("the configuration has no problems");
    }
}
