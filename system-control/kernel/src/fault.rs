//! What to do when a program touches a page that its table does not let it touch in this way.

use crate::areas::Protection;

/// How a page was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Load.
    Read,
    /// Store.
    Write,
    /// Instruction fetch.
    Execute,
}

impl Access {
    /// What an area has to allow.
    #[must_use]
    pub const fn needs(self) -> Protection {
        match self {
            Access::Read => Protection::READ,
            Access::Write => Protection::WRITE,
            Access::Execute => Protection::EXECUTE,
        }
    }
}

/// What the page's entry in the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Present {
    /// Nothing.
    No,
    /// A page that must not be written.
    ReadOnly {
        /// Nobody else has the frame.
        sole: bool,
    },
    /// A page that may be written.
    Writable,
}

/// What the area is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Zeroes at first, the program's own.
    Anonymous,
    /// A file's bytes, the program's own once it writes them.
    PrivateFile,
    /// Pages that others have too and that all may write.
    Shared,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// SIGSEGV: the area does not allow it.
    Deny,
    /// Nothing: the table allows it already.
    Nothing,
    /// Map a new page of zeroes, writable if the area is.
    Zero,
    /// Map the file's own page, read-only.
    MapFile,
    /// Map a new page with the file's bytes, writable.
    CopyFile,
    /// Map the shared page, writable if the area is.
    MapShared,
    /// Map a copy of the page that is there, writable.
    Copy,
    /// Let the page that is there be written.
    Unprotect,
}

/// Decides what a touch of a page in an area needs.
#[must_use]
pub fn plan(protection: Protection, content: Content, present: Present, access: Access) -> Plan {
    if !protection.contains(access.needs()) {
        return Plan::Deny;
    }
    let write = access == Access::Write;
    match (present, content) {
        (Present::Writable, _) => Plan::Nothing,
        (Present::ReadOnly { .. }, _) if !write => Plan::Nothing,
        (Present::ReadOnly { .. }, Content::Shared) => Plan::Unprotect,
        (Present::ReadOnly { sole: true }, Content::Anonymous | Content::PrivateFile) => Plan::Unprotect,
        (Present::ReadOnly { sole: false }, _) => Plan::Copy,
        (Present::No, Content::Anonymous) => Plan::Zero,
        (Present::No, Content::PrivateFile) if write => Plan::CopyFile,
        (Present::No, Content::PrivateFile) => Plan::MapFile,
        (Present::No, Content::Shared) => Plan::MapShared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RW: Protection = Protection::READ.union(Protection::WRITE);

    #[test]
    fn what_the_area_forbids_is_denied_whatever_is_there() {
        for present in [Present::No, Present::ReadOnly { sole: true }, Present::Writable] {
            for content in [Content::Anonymous, Content::PrivateFile, Content::Shared] {
                assert_eq!(plan(Protection::READ, content, present, Access::Write), Plan::Deny);
                assert_eq!(plan(RW, content, present, Access::Execute), Plan::Deny);
                assert_eq!(plan(Protection::empty(), content, present, Access::Read), Plan::Deny);
            }
        }
    }

    #[test]
    fn a_write_never_reaches_what_others_have() {
        assert_eq!(
            plan(RW, Content::Anonymous, Present::ReadOnly { sole: false }, Access::Write),
            Plan::Copy
        );
        assert_eq!(
            plan(RW, Content::PrivateFile, Present::ReadOnly { sole: false }, Access::Write),
            Plan::Copy
        );
        assert_eq!(plan(RW, Content::PrivateFile, Present::No, Access::Write), Plan::CopyFile);
        assert_eq!(
            plan(RW, Content::Anonymous, Present::ReadOnly { sole: true }, Access::Write),
            Plan::Unprotect
        );
        assert_eq!(
            plan(RW, Content::Shared, Present::ReadOnly { sole: false }, Access::Write),
            Plan::Unprotect
        );
    }

    #[test]
    fn what_is_not_there_comes_at_the_first_touch() {
        assert_eq!(plan(RW, Content::Anonymous, Present::No, Access::Read), Plan::Zero);
        assert_eq!(plan(RW, Content::PrivateFile, Present::No, Access::Read), Plan::MapFile);
        assert_eq!(plan(RW, Content::Shared, Present::No, Access::Write), Plan::MapShared);
        assert_eq!(plan(RW, Content::Anonymous, Present::Writable, Access::Write), Plan::Nothing);
        let code = Protection::READ.union(Protection::EXECUTE);
        assert_eq!(plan(code, Content::PrivateFile, Present::No, Access::Execute), Plan::MapFile);
    }
}
