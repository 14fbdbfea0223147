//! A kernel's types out of its image: the image unpacked, and the section `.BTF` of what was in it.

use std::io::Read as _;

use anyhow::{Context as _, Result, bail, ensure};
use object::{Object as _, ObjectSection as _};

/// Where the boot protocol for x86 has what is read here.
///
/// Source: <https://www.kernel.org/doc/html/latest/arch/x86/boot.html>.
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR_BYTES: usize = 512;

/// The raw types of the kernel in a bzImage.
///
/// # Errors
/// When it is none, is packed in a way that Debian does not use, or has no types.
pub(super) fn types(image: &[u8]) -> Result<Vec<u8>> {
    let vmlinux = unpack(payload(image)?)?;
    let elf = object::File::parse(vmlinux.as_slice()).context("what is in the image is no ELF file")?;
    let section = elf.section_by_name(".BTF").context("the kernel has no section .BTF")?;
    Ok(section.data().context("its section .BTF cannot be read")?.to_vec())
}

/// The packed kernel.
fn payload(image: &[u8]) -> Result<&[u8]> {
    ensure!(image.get(MAGIC..MAGIC + 4) == Some(b"HdrS"), "it is no image of a kernel for x86");
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    let start = (usize::from(image[SETUP_SECTORS]) + 1) * SECTOR_BYTES;
    let place = word(PAYLOAD_OFFSET).zip(word(PAYLOAD_LENGTH));
    place
        .and_then(|(offset, length)| image.get(start + offset..start + offset + length))
        .context("the image ends before the kernel in it does")
}

/// Unpacks; the last four bytes are the size of what comes out.
fn unpack(payload: &[u8]) -> Result<Vec<u8>> {
    let (packed, size) = payload.split_last_chunk().context("there is nothing in the image")?;
    let size = u32::from_le_bytes(*size) as usize;
    let mut unpacked = Vec::with_capacity(size);
    match packed {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            zstd::Decoder::new(packed)?.single_frame().read_to_end(&mut unpacked)?;
        }
        // The frame of `lz4 -l`.
        [0x02, 0x21, 0x4c, 0x18, ..] => {
            lz4_flex::frame::FrameDecoder::new(packed).read_to_end(&mut unpacked)?;
        }
        _ => bail!("the kernel is packed neither by zstd nor by lz4"),
    }
    ensure!(unpacked.len() == size, "{} bytes came out of the image where it says {size}", unpacked.len());
    Ok(unpacked)
}
