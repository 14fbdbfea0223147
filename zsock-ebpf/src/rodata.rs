//! Constants that the agent fills in before loading. The kernel freezes them, so the verifier knows their values, takes an
//! offset for a constant and prunes what is switched off.

use zsock_common::offsets::Offsets;
use zsock_common::settings::Settings;

/// Field offsets of the running kernel.
#[unsafe(no_mangle)]
pub(crate) static OFFSETS: Offsets = Offsets::ABSENT;

/// How to work.
#[unsafe(no_mangle)]
pub(crate) static SETTINGS: Settings = Settings::DEFAULT;

/// The offset of a field of the running kernel.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: points into a static; volatile because its value is only known after compilation.
        unsafe { core::ptr::read_volatile(&raw const $crate::rodata::OFFSETS.$field) }
    };
}

/// One of the agent's settings.
macro_rules! setting {
    ($($path:tt)+) => {
        // SAFETY: points into a static; volatile because its value is only known after compilation.
        unsafe { core::ptr::read_volatile(&raw const $crate::rodata::SETTINGS.$($path)+) }
    };
}

pub(crate) use {offset, setting};
