//! Loading programs.

use alloc::{rc::Rc, vec::Vec};

use handover_kernel::{
    Errno,
    elf::{self, HEAD},
    layout::{PAGE, STACK_SIZE, STACK_TOP},
    registers::Registers,
    stack,
};
use linux_raw_sys::{auxvec, general as linux};
use rand_chacha::rand_core::RngCore;

use crate::{
    arch,
    kernel::Kernel,
    memory::{Place, Space, Stuff},
    source::FileSource,
};

/// A program that is ready to run.
pub struct Program {
    pub space: Space,
    pub registers: Registers,
    pub path: Vec<u8>,
    /// The arguments, each ended by a zero byte.
    pub command_line: Vec<u8>,
}

/// HWCAP bits of arm64 (Linux's `asm/hwcap.h`, which the bindings do not have), and the fields of ID_AA64ISAR0_EL1 that they follow:
/// where, and from what value on.
const CAPABILITIES: [(u64, u32, u64); 7] = [
    (1 << 3, 4, 1),   // AES
    (1 << 4, 4, 2),   // PMULL
    (1 << 5, 8, 1),   // SHA1
    (1 << 6, 12, 1),  // SHA2
    (1 << 7, 16, 1),  // CRC32
    (1 << 8, 20, 2),  // ATOMICS
    (1 << 20, 44, 1), // ASIMDDP
];
/// FP and ASIMD, which every processor has that runs this.
const FLOATING_POINT: u64 = 1 << 0 | 1 << 1;

fn capabilities() -> u64 {
    let features = arch::instruction_set();
    let found = CAPABILITIES.iter().filter(|(_, shift, least)| features >> shift & 0xf >= *least);
    found.fold(FLOATING_POINT, |all, (bit, _, _)| all | bit)
}

/// The most scripts that interpret each other.
const SCRIPTS_MAX: usize = 4;

/// Finds a program and puts it into an address space of its own. Nothing of the caller's changes.
pub fn load(
    kernel: &mut Kernel,
    path: &[u8],
    mut arguments: Vec<Vec<u8>>,
    environment: &[Vec<u8>],
) -> Result<Program, Errno> {
    let mut file_path = path.to_vec();
    for _ in 0..SCRIPTS_MAX {
        let (file, size, head) = open(kernel, &file_path)?;
        let Some(line) = script(&head) else {
            return load_program(kernel, file, size, &head, file_path, &arguments, environment);
        };
        // The interpreter, its argument, the script, and what the script was given.
        let mut words = line.splitn(2, |&byte| byte == b' ');
        let interpreter = words.next().filter(|word| !word.is_empty()).ok_or(Errno::NOEXEC)?.to_vec();
        let argument = words.next().map(<[u8]>::trim_ascii).filter(|word| !word.is_empty());
        let mut all = alloc::vec![interpreter.clone()];
        all.extend(argument.map(<[u8]>::to_vec));
        all.push(file_path);
        all.extend(arguments.into_iter().skip(1));
        (arguments, file_path) = (all, interpreter);
    }
    Err(Errno::NOEXEC)
}

/// The first line of a script, behind its mark.
fn script(head: &[u8]) -> Option<&[u8]> {
    let line = head.strip_prefix(b"#!")?;
    let end = line.iter().position(|&byte| byte == b'\n').unwrap_or(line.len());
    Some(line[..end].trim_ascii())
}

/// A program's file, and its first bytes.
fn open(kernel: &mut Kernel, path: &[u8]) -> Result<(Rc<FileSource>, u64, Vec<u8>), Errno> {
    kernel.with_files(|caller, _| {
        caller.faccessat(linux::AT_FDCWD, path, linux::X_OK, 0)?;
        let hold = caller.hold_path(linux::AT_FDCWD, path)?;
        let read = (|| {
            let mut head = alloc::vec![0; HEAD];
            let size = caller.read_held(&hold, 0, &mut &mut head[..])?;
            head.truncate(size);
            let source = FileSource::new(caller, &hold, 0, u64::MAX, false)?;
            let size = caller.statat(linux::AT_FDCWD, path, 0)?.size;
            Ok((Rc::new(source), size, head))
        })();
        caller.files.release(hold, caller.system);
        read
    })?
}

fn load_program(
    kernel: &mut Kernel,
    file: Rc<FileSource>,
    size: u64,
    head: &[u8],
    path: Vec<u8>,
    arguments: &[Vec<u8>],
    environment: &[Vec<u8>],
) -> Result<Program, Errno> {
    let plan = elf::plan(head, size)?;
    let mut random = [0; 16];
    kernel.random.fill_bytes(&mut random);
    let user = kernel.payer().user().into();
    let auxiliary = [
        (auxvec::AT_PHDR, plan.headers),
        (auxvec::AT_PHENT, plan.header_size),
        (auxvec::AT_PHNUM, plan.header_count),
        (auxvec::AT_PAGESZ, PAGE),
        (auxvec::AT_ENTRY, plan.entry),
        (auxvec::AT_HWCAP, capabilities()),
        (auxvec::AT_CLKTCK, 100),
        (auxvec::AT_UID, user),
        (auxvec::AT_EUID, user),
        (auxvec::AT_GID, 0),
        (auxvec::AT_EGID, 0),
        (auxvec::AT_SECURE, 0),
    ];
    let image = stack::build(STACK_TOP, &path, arguments, environment, random, &auxiliary)?;
    let (asid, id) = kernel.asids.take().ok_or(Errno::AGAIN)?;
    let mut space = match Space::new(&mut kernel.frames, id, asid, kernel.limits.space) {
        Ok(space) => space,
        Err(errno) => {
            kernel.asids.release(asid);
            return Err(errno);
        }
    };
    if let Err(errno) = fill(kernel, &mut space, &file, &plan, &image) {
        kernel.destroy_space(space);
        return Err(errno);
    }
    let registers = Registers { pc: plan.entry, sp: image.pointer, ..Registers::default() };
    let command_line = arguments.iter().flat_map(|argument| argument.iter().copied().chain([0])).collect();
    Ok(Program { space, registers, path, command_line })
}

fn fill(
    kernel: &mut Kernel,
    space: &mut Space,
    file: &Rc<FileSource>,
    plan: &elf::Plan,
    image: &stack::Image,
) -> Result<(), Errno> {
    let frames = &mut kernel.frames;
    for segment in &plan.segments {
        let length = |range: &core::ops::Range<u64>| range.end - range.start;
        if !segment.file.is_empty() {
            let stuff = Stuff::File { file: file.clone(), offset: segment.offset };
            space.map_area(
                frames,
                Place::Free(segment.file.start),
                length(&segment.file),
                segment.protection,
                stuff,
            )?;
        }
        if !segment.zeroes.is_empty() {
            space.map_area(
                frames,
                Place::Free(segment.zeroes.start),
                length(&segment.zeroes),
                segment.protection,
                Stuff::Anonymous,
            )?;
        }
        if !segment.tail.is_empty() {
            let zeroes = alloc::vec![0; length(&segment.tail) as usize];
            space.write(frames, segment.tail.start, &zeroes)?;
        }
    }
    space.add_stack(STACK_TOP - STACK_SIZE..STACK_TOP)?;
    space.write(frames, image.pointer, &image.bytes)?;
    space.set_break(plan.end);
    Ok(())
}
