//! Watches answers.
use crate::profile::Profile;
#[derive(Debug)]
pub(crate) struct Answers {}
impl Answers { pub(super) fn new(_: &Profile) -> Self { Self {} } }
#[derive(Debug)]
pub(crate) struct Looked;
