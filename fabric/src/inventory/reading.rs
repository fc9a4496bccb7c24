//! One field of the inventory: known, or absent with the reason.

use std::fmt;

/// What came of reading one field. Unknown is never zero: an absent field keeps why it is absent.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading<T> {
    /// The kernel said so.
    Known(T),
    /// This machine, driver or kernel does not have the field; reading again will not help.
    Unsupported(String),
    /// The field is there and could not be read or understood; the text says what was found.
    Failed(String),
}

impl<T> Reading<T> {
    /// The value, where there is one.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unsupported(_) | Self::Failed(_) => None,
        }
    }

    /// Why there is no value, as it stands in JSON: `unsupported: …` or `failed: …`.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Known(_) => None,
            Self::Unsupported(why) => Some(format!("unsupported: {why}")),
            Self::Failed(why) => Some(format!("failed: {why}")),
        }
    }

    /// The same absence, or another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Reading<U> {
        self.and_then(|value| Reading::Known(f(value)))
    }

    /// The same absence, or what `f` makes of the value.
    pub fn and_then<U>(self, f: impl FnOnce(T) -> Reading<U>) -> Reading<U> {
        match self {
            Self::Known(value) => f(value),
            Self::Unsupported(why) => Reading::Unsupported(why),
            Self::Failed(why) => Reading::Failed(why),
        }
    }

    /// This reading, or `other` where this one has no value.
    #[must_use]
    pub fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Known(_) => self,
            Self::Unsupported(_) | Self::Failed(_) => match other() {
                Self::Known(value) => Self::Known(value),
                Self::Unsupported(_) | Self::Failed(_) => self,
            },
        }
    }
}

impl<T: fmt::Display> fmt::Display for Reading<T> {
    /// The value, or `-`: tables have no room for the reason, JSON has.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(value) => f.pad(&value.to_string()),
            Self::Unsupported(_) | Self::Failed(_) => f.pad("-"),
        }
    }
}

/// Declares a record whose `read` fields are [`Reading`]s, written as the value or as `null` with
/// `<field>_reason` beside it; `plain` fields are always there.
macro_rules! record {
    (@type read $ty:ty) => { $crate::inventory::Reading<$ty> };
    (@type plain $ty:ty) => { $ty };
    (@put read $map:ident $this:ident $field:ident) => {
        match &$this.$field {
            $crate::inventory::Reading::Known(value) => {
                $map.serialize_entry(stringify!($field), value)?;
            }
            absent => {
                $map.serialize_entry(stringify!($field), &None::<()>)?;
                $map.serialize_entry(concat!(stringify!($field), "_reason"), &absent.reason())?;
            }
        }
    };
    (@put plain $map:ident $this:ident $field:ident) => {
        $map.serialize_entry(stringify!($field), &$this.$field)?;
    };
    ($(#[$meta:meta])* $name:ident { $($(#[$about:meta])* $kind:ident $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $($(#[$about])* pub $field: record!(@type $kind $ty),)* }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let this = self;
                let mut map = serializer.serialize_map(None)?;
                $(record!(@put $kind map this $field);)*
                map.end()
            }
        }
    };
}
pub(crate) use record;
