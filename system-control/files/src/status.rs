//! What `stat`, `statx` and `statfs` tell, in Linux's layouts for the target the crate is built for.

use core::mem::{offset_of, size_of};

use linux_raw_sys::general::{STATX_BASIC_STATS, stat, statfs, statx, statx_timestamp};

use crate::system::Time;

/// What is known of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The file system.
    pub device: u64,
    /// The file's number, unlike any other's in its file system.
    pub inode: u64,
    /// Kind and permissions.
    pub mode: u32,
    /// Names it has.
    pub links: u32,
    /// Owner.
    pub user: u32,
    /// Owner's group.
    pub group: u32,
    /// The device that it stands for.
    pub special: u64,
    /// Bytes.
    pub size: u64,
    /// Blocks of 512 bytes that it takes.
    pub blocks: u64,
    /// Last read.
    pub accessed: Time,
    /// Last written.
    pub modified: Time,
    /// Last change of anything about it.
    pub changed: Time,
}

/// What is known of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSystemStatus {
    /// Linux's number for its type.
    pub kind: u64,
    /// Pages there may be.
    pub blocks: u64,
    /// Pages that are free.
    pub free_blocks: u64,
    /// Inodes there may be.
    pub inodes: u64,
    /// Inodes that are free.
    pub free_inodes: u64,
    /// `ST_RDONLY` and the like.
    pub flags: u64,
}

const BLOCK: u64 = crate::page::PAGE as u64;

/// Bytes of a field, as the structure has it.
const fn width<S, F>(_: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

/// Puts values into a structure's fields, little-endian.
macro_rules! fill {
    ($bytes:ident, $structure:ty, { $($field:ident: $value:expr,)* }) => {
        $({
            let value = u64::to_le_bytes($value);
            let (at, length) = (offset_of!($structure, $field), width(|structure: &$structure| &structure.$field));
            $bytes[at..at + length].copy_from_slice(&value[..length]);
        })*
    };
}

const fn major(device: u64) -> u64 {
    device >> 8 & 0xfff | device >> 32 & !0xfff
}

const fn minor(device: u64) -> u64 {
    device & 0xff | device >> 12 & 0xff_ff00
}

impl Metadata {
    /// `struct stat`.
    #[must_use]
    pub fn to_stat(&self) -> [u8; size_of::<stat>()] {
        let mut bytes = [0; size_of::<stat>()];
        fill!(bytes, stat, {
            st_dev: self.device,
            st_ino: self.inode,
            st_mode: self.mode.into(),
            st_nlink: self.links.into(),
            st_uid: self.user.into(),
            st_gid: self.group.into(),
            st_rdev: self.special,
            st_size: self.size,
            st_blksize: BLOCK,
            st_blocks: self.blocks,
            st_atime: self.accessed.seconds as u64,
            st_atime_nsec: self.accessed.nanoseconds.into(),
            st_mtime: self.modified.seconds as u64,
            st_mtime_nsec: self.modified.nanoseconds.into(),
            st_ctime: self.changed.seconds as u64,
            st_ctime_nsec: self.changed.nanoseconds.into(),
        });
        bytes
    }

    /// `struct statx`, with the basic fields.
    #[must_use]
    pub fn to_statx(&self) -> [u8; size_of::<statx>()] {
        let mut bytes = [0; size_of::<statx>()];
        fill!(bytes, statx, {
            stx_mask: STATX_BASIC_STATS.into(),
            stx_blksize: BLOCK,
            stx_nlink: self.links.into(),
            stx_uid: self.user.into(),
            stx_gid: self.group.into(),
            stx_mode: self.mode.into(),
            stx_ino: self.inode,
            stx_size: self.size,
            stx_blocks: self.blocks,
            stx_rdev_major: major(self.special),
            stx_rdev_minor: minor(self.special),
            stx_dev_major: major(self.device),
            stx_dev_minor: minor(self.device),
        });
        for (at, time) in [
            (offset_of!(statx, stx_atime), self.accessed),
            (offset_of!(statx, stx_mtime), self.modified),
            (offset_of!(statx, stx_ctime), self.changed),
        ] {
            let mut stamp = [0; size_of::<statx_timestamp>()];
            fill!(stamp, statx_timestamp, { tv_sec: time.seconds as u64, tv_nsec: time.nanoseconds.into(), });
            bytes[at..at + stamp.len()].copy_from_slice(&stamp);
        }
        bytes
    }
}

impl FileSystemStatus {
    /// `struct statfs`.
    #[must_use]
    pub fn to_statfs(&self) -> [u8; size_of::<statfs>()] {
        let mut bytes = [0; size_of::<statfs>()];
        fill!(bytes, statfs, {
            f_type: self.kind,
            f_bsize: BLOCK,
            f_blocks: self.blocks,
            f_bfree: self.free_blocks,
            f_bavail: self.free_blocks,
            f_files: self.inodes,
            f_ffree: self.free_inodes,
            f_namelen: 255,
            f_frsize: BLOCK,
            f_flags: self.flags,
        });
        bytes
    }
}
