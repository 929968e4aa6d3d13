//! Tables of keys: a mapping of the file is declared as one table, which reads it, prints it and
//! describes it.
use std::collections::BTreeMap;

use super::cursor::Cursor;
use super::format::{DefaultValue, Format, Kind, Row, Section, Tree};
use super::problem::{Problem, list};
use super::yaml::Value;
use crate::spelling::nearest;

/// The keys of a mapping that becomes a `T`.
pub(super) struct Table<T: 'static> {
    /// Keys that another table declares, which come first.
    pub base: Option<&'static dyn Keys<T>>,
    pub keys: &'static [Key<T>],
    pub required: &'static [&'static str],
    /// Keys of which either all or none must be set.
    pub together: &'static [&'static str],
    /// Checks that take more than one key.
    pub check: Option<fn(&T, &Cursor<'_>)>,
}

pub(super) struct Key<T: 'static> {
    pub name: &'static str,
    pub help: &'static str,
    /// The default in words, where it depends on the machine.
    pub default: Option<&'static str>,
    pub reload: Reload,
    pub field: &'static dyn Format<T>,
}

/// What becomes of a change of a key while the sidecar runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reload {
    /// Requests and connections from then on use the new value.
    Live,
    /// The value stays as it is until a restart.
    Restart,
    /// A section, whose keys say so.
    Each,
}

/// Declares keys, a line each: `name: FORMAT, live, "help";` for the field of that name, or
/// `name = FORMAT, live, "help";` for a format of the whole type. The word is one of [`Reload`].
macro_rules! keys {
    ($type:ty; $($name:ident $sign:tt $format:expr, $reload:ident, $help:literal $(, default $default:literal)?;)*) => {
        &[$(Key::<$type> {
            name: stringify!($name),
            help: $help,
            default: keys!(@default $($default)?),
            reload: keys!(@reload $reload),
            field: keys!(@field $type, $name $sign $format),
        }),*]
    };
    (@reload live) => { Reload::Live };
    (@reload restart) => { Reload::Restart };
    (@reload each) => { Reload::Each };
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
    (@field $type:ty, $name:ident : $format:expr) => {
        &Field::<$type, _, _> { get: |of| &of.$name, get_mut: |of| &mut of.$name, format: $format }
    };
    (@field $type:ty, $name:ident = $format:expr) => { &$format };
}
pub(super) use keys;

impl<T> Table<T> {
    pub(super) const EMPTY: Self = Self { base: None, keys: &[], required: &[], together: &[], check: None };
}

/// A set of keys of a `T`, whichever type declares them.
pub(super) trait Keys<T>: Sync {
    fn names(&self) -> Vec<&'static str>;
    /// Reads the value of one key.
    fn set(&self, name: &str, at: &Cursor<'_>, to: &mut T);
    fn entries(&self, value: &T, base: &T) -> Vec<(String, Tree)>;
    fn rows(&self, default: &T) -> Vec<Row>;
}

impl<T> Keys<T> for Table<T> {
    fn names(&self) -> Vec<&'static str> {
        let base = self.base.map_or_else(Vec::new, Keys::names);
        base.into_iter().chain(self.keys.iter().map(|key| key.name)).collect()
    }

    fn set(&self, name: &str, at: &Cursor<'_>, to: &mut T) {
        match (self.keys.iter().find(|key| key.name == name), self.base) {
            (Some(key), _) => key.field.read(at, to),
            (None, Some(base)) => base.set(name, at, to),
            (None, None) => debug_assert!(false, "no key `{name}`"),
        }
    }

    fn entries(&self, value: &T, base: &T) -> Vec<(String, Tree)> {
        let mut entries = self.base.map_or_else(Vec::new, |keys| keys.entries(value, base));
        let own = self.keys.iter();
        entries.extend(own.filter_map(|key| Some((key.name.to_owned(), key.field.print(value, base)?))));
        entries
    }

    fn rows(&self, default: &T) -> Vec<Row> {
        let mut rows = self.base.map_or_else(Vec::new, |keys| keys.rows(default));
        rows.extend(self.keys.iter().map(|key| {
            let kind = key.field.describe(default);
            let printed = || key.field.print(default, default).filter(|_| matches!(kind, Kind::Value(_)));
            let value =
                || printed().filter(|_| !self.required.contains(&key.name)).map(DefaultValue::Printed);
            let default = key.default.map(DefaultValue::Words).or_else(value);
            Row { name: key.name, help: key.help, default, reload: key.reload, kind }
        }));
        rows
    }
}

impl<T> Table<T> {
    /// Copies the values that cannot change without a restart from `old` to `new`. Returns the keys
    /// whose values differ.
    pub(super) fn keep(&self, old: &T, new: &mut T) -> Vec<&'static str> {
        let of_restart = self.keys.iter().filter(|key| key.reload == Reload::Restart);
        let mut changed = Vec::new();
        for key in of_restart {
            if key.field.print(old, old) != key.field.print(new, new) {
                changed.push(key.name);
                key.field.copy(old, new);
            }
        }
        changed
    }

    /// Reads the mapping; whether all keys that it needs are there.
    fn read_all(&self, at: &Cursor<'_>, to: &mut T) -> bool {
        let names = self.names();
        if !check_names(at, &names) {
            return false;
        }
        for name in names {
            if let Some(entry) = at.get(name) {
                self.set(name, &at.child(entry), to);
            }
        }
        if let Some(check) = self.check {
            check(to, at);
        }
        complete(at, self.required, self.together)
    }

    fn section(&self, default: &T) -> Kind {
        let (required, together) = (self.required, self.together);
        Kind::Section(Section { rows: self.rows(default), required, together })
    }
}

/// Reports keys that a mapping does not have; whether it is a mapping.
pub(super) fn check_names(at: &Cursor<'_>, names: &[&str]) -> bool {
    let entries = at.entries();
    if !matches!(at.node.value, Value::Map(_)) {
        return false;
    }
    for entry in entries.iter().filter(|entry| !names.contains(&entry.key.as_str())) {
        let hint = match nearest(&entry.key, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known keys: {}", list(names, "and")),
        };
        let text = format!("unknown key `{}`", entry.key);
        at.push(Problem::at(entry.place, &at.path, text).hint(hint));
    }
    true
}

/// Reports keys that are missing; whether all that are required are there. Of the keys in
/// `together`, either all or none must be set.
pub(super) fn complete(at: &Cursor<'_>, required: &[&str], together: &[&str]) -> bool {
    let missing = |names: &[&'_ str]| names.iter().filter(|name| at.get(name).is_none()).count();
    let apart = missing(together);
    let absent: Vec<&str> = required.iter().copied().filter(|name| at.get(name).is_none()).collect();
    if apart > 0 && apart < together.len() {
        at.report(Problem::text(format!("{} must be set together", list(together, "and"))));
    } else if let [name] = absent[..] {
        at.report(Problem::text(format!("`{name}` is required")));
    } else if !absent.is_empty() {
        at.report(Problem::text(format!("{} are required", list(&absent, "and"))));
    }
    absent.is_empty()
}

/// The keys of two declarations in one mapping.
pub(super) struct Both<T: 'static>(pub &'static dyn Keys<T>, pub &'static dyn Keys<T>);

impl<T> Keys<T> for Both<T> {
    fn names(&self) -> Vec<&'static str> {
        [self.0.names(), self.1.names()].concat()
    }

    fn set(&self, name: &str, at: &Cursor<'_>, to: &mut T) {
        let keys = if self.0.names().contains(&name) { self.0 } else { self.1 };
        keys.set(name, at, to);
    }

    fn entries(&self, value: &T, base: &T) -> Vec<(String, Tree)> {
        [self.0.entries(value, base), self.1.entries(value, base)].concat()
    }

    fn rows(&self, default: &T) -> Vec<Row> {
        [self.0.rows(default), self.1.rows(default)].concat()
    }
}

impl<T> Format<T> for &'static Table<T> {
    fn read(&self, at: &Cursor<'_>, to: &mut T) {
        self.read_all(at, to);
    }

    fn print(&self, value: &T, base: &T) -> Option<Tree> {
        let entries = Keys::entries(*self, value, base);
        (!entries.is_empty()).then_some(Tree::Map(entries))
    }

    fn describe(&self, default: &T) -> Kind {
        self.section(default)
    }
}

/// A field of a `T` in its format.
pub(super) struct Field<T: 'static, V: 'static, F> {
    pub get: fn(&T) -> &V,
    pub get_mut: fn(&mut T) -> &mut V,
    pub format: F,
}

impl<T, V: Clone, F: Format<V>> Format<T> for Field<T, V, F> {
    fn read(&self, at: &Cursor<'_>, to: &mut T) {
        self.format.read(at, (self.get_mut)(to));
    }

    fn print(&self, value: &T, base: &T) -> Option<Tree> {
        self.format.print((self.get)(value), (self.get)(base))
    }

    fn describe(&self, default: &T) -> Kind {
        self.format.describe((self.get)(default))
    }

    fn copy(&self, from: &T, to: &mut T) {
        (self.get_mut)(to).clone_from((self.get)(from));
    }
}

/// The keys of a field's table, in the mapping of the type that has the field.
impl<T, V> Keys<T> for Field<T, V, &'static Table<V>> {
    fn names(&self) -> Vec<&'static str> {
        self.format.names()
    }

    fn set(&self, name: &str, at: &Cursor<'_>, to: &mut T) {
        self.format.set(name, at, (self.get_mut)(to));
    }

    fn entries(&self, value: &T, base: &T) -> Vec<(String, Tree)> {
        Keys::entries(self.format, (self.get)(value), (self.get)(base))
    }

    fn rows(&self, default: &T) -> Vec<Row> {
        self.format.rows((self.get)(default))
    }
}

/// A section that may be left out.
pub(super) struct Optional<T: 'static> {
    pub table: &'static Table<T>,
    /// What the section is read over.
    pub blank: fn() -> T,
}

impl<T> Format<Option<T>> for Optional<T> {
    fn read(&self, at: &Cursor<'_>, to: &mut Option<T>) {
        let mut value = (self.blank)();
        if self.table.read_all(at, &mut value) {
            *to = Some(value);
        }
    }

    fn print(&self, value: &Option<T>, _: &Option<T>) -> Option<Tree> {
        Some(Tree::Map(self.table.entries(value.as_ref()?, &(self.blank)())))
    }

    fn describe(&self, _: &Option<T>) -> Kind {
        self.table.section(&(self.blank)())
    }
}

/// Sections by name, such as `models`, in a map of a `T`.
pub(super) struct Named<T: 'static, V: 'static> {
    /// Stands for any of the names in the reference.
    pub name: &'static str,
    pub table: &'static Table<V>,
    pub get: fn(&T) -> &BTreeMap<String, V>,
    pub get_mut: fn(&mut T) -> &mut BTreeMap<String, V>,
    /// What each section is read over.
    pub base: fn(&T) -> V,
    /// Whether that is the section around it, so that no key has a default of its own.
    pub inherits: bool,
}

impl<T, V> Format<T> for Named<T, V> {
    fn read(&self, at: &Cursor<'_>, to: &mut T) {
        for entry in at.entries() {
            let cursor = at.child(entry);
            if entry.key.is_empty() {
                at.push(Problem::at(entry.place, &at.path, "a name must not be empty"));
            }
            let mut value = (self.base)(to);
            self.table.read_all(&cursor, &mut value);
            (self.get_mut)(to).insert(entry.key.clone(), value);
        }
    }

    fn print(&self, value: &T, _: &T) -> Option<Tree> {
        let base = (self.base)(value);
        let entries: Vec<_> = (self.get)(value)
            .iter()
            .map(|(name, value)| (name.clone(), Tree::Map(Keys::entries(self.table, value, &base))))
            .collect();
        (!entries.is_empty()).then_some(Tree::Map(entries))
    }

    fn describe(&self, default: &T) -> Kind {
        let mut each = self.table.section(&(self.base)(default));
        if let Kind::Section(section) = &mut each
            && self.inherits
        {
            section.rows.iter_mut().for_each(|row| row.default = None);
        }
        Kind::Named { name: self.name, each: Box::new(each) }
    }
}
