//! The models that TF Serving serves: from name, version and label to signatures. Every request
//! reads it, without a lock.
use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::config_problems::{ConfigProblem, config_problems};
pub(crate) use super::model_version::ModelVersion;
use crate::repair::policy::ModelPolicy;
use crate::signature::Signatures;
use crate::wire::{ModelSpec, VersionChoice};

/// One model: its latest version, and the other versions that requests have named.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    /// The highest version that is served: the one that requests without a version get.
    pub latest: Option<i64>,
    /// Every version that is served, or `None` if TF Serving does not offer ModelService.
    pub available: Option<Vec<i64>>,
    pub versions: BTreeMap<i64, Arc<ModelVersion>>,
    /// The labels that requests have named.
    pub labels: BTreeMap<String, i64>,
}

/// What one refresh found out about a model.
#[derive(Debug, Default)]
pub(crate) struct Observation {
    pub available: Option<Vec<i64>>,
    /// The version that TF Serving chose for a request without one.
    pub latest: Option<i64>,
    pub read: Vec<(i64, Signatures)>,
    /// The version that each label now has; `None` if the label is gone.
    pub labels: Vec<(String, Option<i64>)>,
    /// Versions whose signatures must not be kept even if they are still served: another server may
    /// have taken the address.
    pub forget: Vec<i64>,
}

impl Observation {
    /// The signatures of a version: those that were read, else those that were known before.
    pub(super) fn signatures_of<'a>(&'a self, version: i64, before: &'a Entry) -> Option<&'a Signatures> {
        let read = self.read.iter().find(|(read, _)| *read == version).map(|(_, signatures)| signatures);
        read.or_else(|| before.versions.get(&version).map(|known| &known.signatures))
    }
}

impl Entry {
    pub(crate) fn get(&self, choice: &VersionChoice) -> Option<&Arc<ModelVersion>> {
        let version = match choice {
            VersionChoice::Latest => self.latest?,
            VersionChoice::Version(version) => *version,
            VersionChoice::Label(label) => *self.labels.get(label)?,
        };
        self.versions.get(&version)
    }

    /// The entry after an observation. A version whose signatures did not change stays the same
    /// [`ModelVersion`] object.
    #[must_use]
    pub(crate) fn after(&self, model: &str, policy: &Arc<ModelPolicy>, seen: Observation) -> Self {
        let mut next = self.clone();
        for version in seen.forget {
            if !seen.read.iter().any(|(read, _)| *read == version) {
                next.versions.remove(&version);
            }
        }
        let read: Vec<i64> = seen.read.iter().map(|(version, _)| *version).collect();
        for (version, signatures) in seen.read {
            let unchanged = next.versions.get(&version).is_some_and(|held| held.signatures == signatures);
            if !unchanged {
                let before = self.get(&VersionChoice::Latest).map(|latest| &**latest);
                let model_version = ModelVersion::new(model, version, signatures, Arc::clone(policy), before);
                next.versions.insert(version, Arc::new(model_version));
            }
        }
        if let Some(available) = seen.available {
            // A version that was just read is served, even if the status, read a moment before or
            // after, does not list it.
            next.versions.retain(|version, _| available.contains(version) || read.contains(version));
            next.available = Some(available);
        }
        let highest = next.available.as_ref().and_then(|available| available.iter().max().copied());
        next.latest = highest.or(seen.latest).or(next.latest);
        for (label, version) in seen.labels {
            match version {
                Some(version) => next.labels.insert(label, version),
                None => next.labels.remove(&label),
            };
        }
        let versions = &next.versions;
        next.labels.retain(|_, version| versions.contains_key(version));
        next
    }

    /// The entry after a change of the model's policy.
    #[must_use]
    pub(super) fn with_policy(&self, policy: &Arc<ModelPolicy>) -> Self {
        let mut next = self.clone();
        for version in next.versions.values_mut().filter(|version| !version.has_policy(policy)) {
            *version = Arc::new(version.with_policy(policy));
        }
        next
    }

    /// The settings that match no version whose signatures are known: a label may keep an old one
    /// in use.
    pub(super) fn config_problems(&self, model: &str, policy: &ModelPolicy) -> Vec<ConfigProblem> {
        let Some(latest) = self.get(&VersionChoice::Latest) else { return Vec::new() };
        let mut problems = config_problems(model, policy, &latest.signatures);
        for other in self.versions.values().filter(|other| other.version != latest.version) {
            if problems.is_empty() {
                break;
            }
            let theirs = config_problems(model, policy, &other.signatures);
            problems.retain(|problem| theirs.iter().any(|other| other.path == problem.path));
        }
        problems
    }

    /// How the latest version's signatures differ in a newer entry, one line per difference.
    pub(crate) fn changes_to(&self, newer: &Self) -> Vec<String> {
        match (self.get(&VersionChoice::Latest), newer.get(&VersionChoice::Latest)) {
            (Some(before), Some(after)) => before.signatures.changes_to(&after.signatures),
            (Some(_) | None, _) => Vec::new(),
        }
    }
}

/// Sorted: with a few names, comparing is cheaper than hashing.
type Models = BTreeMap<String, Arc<Entry>>;

/// All models. Written by the control thread only.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    models: ArcSwap<Models>,
}

impl Catalog {
    pub(crate) fn lookup(&self, spec: &ModelSpec) -> Option<Arc<ModelVersion>> {
        self.find(&spec.name, &spec.version)
    }

    pub(crate) fn find(&self, model: &str, choice: &VersionChoice) -> Option<Arc<ModelVersion>> {
        self.models.load().get(model)?.get(choice).cloned()
    }

    pub(crate) fn entry(&self, model: &str) -> Option<Arc<Entry>> {
        self.models.load().get(model).cloned()
    }

    /// Whether requests for the latest version can be checked.
    pub(crate) fn serves(&self, model: &str) -> bool {
        self.models.load().get(model).is_some_and(|entry| entry.get(&VersionChoice::Latest).is_some())
    }

    /// Every model, by name.
    pub(crate) fn snapshot(&self) -> BTreeMap<String, Arc<Entry>> {
        self.models.load().iter().map(|(name, entry)| (name.clone(), Arc::clone(entry))).collect()
    }

    /// The inputs and outputs of all signatures of all models but this one.
    pub(super) fn tensors_without(&self, model: &str) -> usize {
        let models = self.models.load();
        let others = models.iter().filter(|(name, _)| *name != model).map(|(_, entry)| entry);
        others.flat_map(|entry| entry.versions.values()).map(|version| version.signatures.tensors()).sum()
    }

    pub(crate) fn len(&self) -> usize {
        self.models.load().len()
    }

    /// Replaces or removes one entry. Requests that have looked the old one up keep it. There must
    /// be only one writer.
    pub(super) fn put(&self, model: &str, entry: Option<Entry>) {
        let mut models = Models::clone(&self.models.load());
        match entry {
            Some(entry) => models.insert(model.to_owned(), Arc::new(entry)),
            None => models.remove(model),
        };
        self.models.store(Arc::new(models));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tensorflow::SignatureDef;
    use crate::proto::tensorflow::serving::SignatureDefMap;

    fn signatures(names: &[&str]) -> Signatures {
        let signature_def = names.iter().map(|name| ((*name).to_owned(), SignatureDef::default())).collect();
        Signatures::from(SignatureDefMap { signature_def })
    }

    #[test]
    fn tensors_of_other_models_are_counted() {
        let catalog = Catalog::default();
        let read = crate::repair::notation::signature("a:float[-1] b:float[-1]").unwrap();
        let seen = Observation { latest: Some(1), read: vec![(1, read)], ..Observation::default() };
        catalog.put("m", Some(after(&Entry::default(), seen)));
        assert_eq!((catalog.tensors_without("m"), catalog.tensors_without("other")), (0, 2));
    }

    fn after(entry: &Entry, seen: Observation) -> Entry {
        entry.after("m", &Arc::default(), seen)
    }

    fn read(version: i64, names: &[&str]) -> Vec<(i64, Signatures)> {
        vec![(version, signatures(names))]
    }

    fn version_of(entry: &Entry, choice: VersionChoice) -> Option<i64> {
        entry.get(&choice).map(|found| found.version)
    }

    #[test]
    fn a_new_version_becomes_the_latest_and_the_old_one_stays_while_it_is_served() {
        let one = after(
            &Entry::default(),
            Observation { available: Some(vec![1]), read: read(1, &["a"]), ..Default::default() },
        );
        assert_eq!(version_of(&one, VersionChoice::Latest), Some(1));
        let both = after(
            &one,
            Observation { available: Some(vec![2, 1]), read: read(2, &["b"]), ..Default::default() },
        );
        assert_eq!(version_of(&both, VersionChoice::Latest), Some(2));
        assert_eq!(version_of(&both, VersionChoice::Version(1)), Some(1));
        assert_eq!(one.changes_to(&both).len(), 2);
        let two = after(&both, Observation { available: Some(vec![2]), ..Default::default() });
        assert_eq!(version_of(&two, VersionChoice::Version(1)), None);
        assert!(Arc::ptr_eq(
            both.get(&VersionChoice::Latest).unwrap(),
            two.get(&VersionChoice::Latest).unwrap()
        ));
    }

    #[test]
    fn unchanged_signatures_stay_the_same_object() {
        let seen = || Observation {
            available: Some(vec![1]),
            read: read(1, &["a"]),
            forget: vec![1],
            ..Default::default()
        };
        let one = after(&Entry::default(), seen());
        let again = after(&one, seen());
        assert!(Arc::ptr_eq(&one.versions[&1], &again.versions[&1]));
        let other = after(
            &one,
            Observation { available: Some(vec![1]), read: read(1, &["b"]), ..Default::default() },
        );
        assert!(!Arc::ptr_eq(&one.versions[&1], &other.versions[&1]));
    }

    #[test]
    fn a_label_follows_its_version() {
        let label = |version| vec![("stable".to_owned(), version)];
        let one = after(
            &Entry::default(),
            Observation {
                available: Some(vec![1, 2]),
                read: read(1, &["a"]),
                labels: label(Some(1)),
                ..Default::default()
            },
        );
        assert_eq!(version_of(&one, VersionChoice::Label("stable".into())), Some(1));
        assert_eq!(version_of(&one, VersionChoice::Latest), None, "version 2 is the latest and was not read");
        let two =
            after(&one, Observation { read: read(2, &["a"]), labels: label(Some(2)), ..Default::default() });
        assert_eq!(version_of(&two, VersionChoice::Label("stable".into())), Some(2));
        let none = after(&two, Observation { labels: label(None), ..Default::default() });
        assert_eq!(version_of(&none, VersionChoice::Label("stable".into())), None);
        let gone = after(&two, Observation { available: Some(vec![1]), ..Default::default() });
        assert_eq!(version_of(&gone, VersionChoice::Label("stable".into())), None);
    }

    #[test]
    fn without_a_status_the_metadata_says_which_version_is_latest() {
        let one = after(
            &Entry::default(),
            Observation { latest: Some(7), read: read(7, &["a"]), ..Default::default() },
        );
        assert_eq!(version_of(&one, VersionChoice::Latest), Some(7));
    }

    #[test]
    fn a_setting_is_a_problem_if_no_known_version_has_the_name() {
        let settings = ["a", "b", "typo"].map(|name| (name.to_owned(), crate::repair::Policy::default()));
        let policy = ModelPolicy { signatures: settings.into(), ..ModelPolicy::default() };
        let problems = |entry: &Entry| -> Vec<String> {
            let found = entry.config_problems("m", &policy).into_iter();
            found.map(|problem| problem.path.replace("models.m.signatures.", "")).collect()
        };
        assert!(problems(&Entry::default()).is_empty(), "nothing was read yet");
        let one = after(
            &Entry::default(),
            Observation { available: Some(vec![1]), read: read(1, &["a"]), ..Default::default() },
        );
        assert_eq!(problems(&one), ["b", "typo"]);
        let both = after(
            &one,
            Observation { available: Some(vec![1, 2]), read: read(2, &["b"]), ..Default::default() },
        );
        assert_eq!(problems(&both), ["typo"]);
        let two = after(&both, Observation { available: Some(vec![2]), ..Default::default() });
        assert_eq!(problems(&two), ["a", "typo"]);
    }

    #[test]
    fn a_removed_model_is_not_found() {
        let catalog = Catalog::default();
        catalog.put(
            "m",
            Some(after(
                &Entry::default(),
                Observation { latest: Some(1), read: read(1, &["a"]), ..Default::default() },
            )),
        );
        assert!(catalog.serves("m") && catalog.find("m", &VersionChoice::Version(2)).is_none());
        catalog.put("m", None);
        assert!(!catalog.serves("m") && catalog.len() == 0);
    }
}
