//! `check`: reports that the configuration is valid, or prints it. Loading it has reported all
//! problems before.
use super::render;
use crate::config::{Config, effective};

pub(super) fn check(config: &Config, print: bool) {
    if print {
        render::data(&effective(config));
    } else {
        render::note("the configuration has no problems");
    }
}
