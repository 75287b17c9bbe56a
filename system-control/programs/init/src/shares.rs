//! What memory each program may have.

use handover_files::Payer;
use handover_manifest::{MemorySize, Program};

/// The user that a program runs as, and what that user may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user: the program's place in the manifest, from 1 on.
    pub user: u32,
    /// Bytes of memory.
    pub memory: u64,
}

/// Divides memory among programs: what the manifest says, and equal parts of the rest for those of which it says nothing. So nobody can take
/// what is another's. Who reads the console has no account: it is the operator's, as user 0, whom nothing limits.
///
/// # Errors
///
/// A sentence: the manifest gives out more than there is.
pub fn divide(programs: &[Program], total: u64) -> Result<Vec<Option<Account>>, String> {
    let for_all = total - Payer::reserve(total);
    let limited = || programs.iter().filter(|program| !program.console);
    let given: u64 = limited().filter_map(|program| program.memory).map(|memory| memory.0).sum();
    let others = limited().filter(|program| program.memory.is_none()).count() as u64;
    let rest = for_all.checked_sub(given).filter(|&rest| rest > 0 || others == 0).ok_or_else(|| {
        let [given, for_all] = [given, for_all].map(|bytes| MemorySize(bytes >> 10 << 10));
        format!("programs are to have {given} of memory, and others some more, of {for_all} that there are for them")
    })?;
    let equal = rest.checked_div(others).unwrap_or(0);
    let account = |(index, program): (usize, &Program)| {
        let memory = program.memory.map_or(equal, |memory| memory.0);
        (!program.console).then_some(Account { user: index as u32 + 1, memory })
    };
    Ok(programs.iter().enumerate().map(account).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(memory: &[Option<u64>]) -> Vec<Program> {
        let program = |memory: &Option<u64>| Program {
            memory: memory.map(MemorySize),
            console: false,
            ..Program::shell()
        };
        memory.iter().map(program).collect()
    }

    #[test]
    fn all_together_get_what_there_is() {
        let divided = |programs: &[Program]| -> Vec<Option<(u32, u64)>> {
            let accounts = divide(programs, 800).unwrap();
            accounts.iter().map(|account| account.map(|account| (account.user, account.memory))).collect()
        };
        let mut three = programs(&[None, Some(100), None]);
        assert_eq!(divided(&three), [Some((1, 300)), Some((2, 100)), Some((3, 300))]);
        three.insert(1, Program::shell());
        assert_eq!(divided(&three), [Some((1, 300)), None, Some((3, 100)), Some((4, 300))]);
        assert_eq!(divided(&[]), []);
        assert_eq!(divided(&programs(&[Some(700)])), [Some((1, 700))]);
    }

    #[test]
    fn more_than_there_is_is_refused() {
        let error = divide(&programs(&[Some(16 << 20), Some(16 << 20)]), 32 << 20).unwrap_err();
        assert_eq!(
            error,
            "programs are to have 32 MiB of memory, and others some more, of 28 MiB that there are for them"
        );
        assert!(divide(&programs(&[Some(700), None]), 800).is_err());
    }
}
