//! How values cross: as little-endian integers one after the other.

/// Something that can be read from a stream of little-endian integers.
pub trait Wire: Sized {
    /// Size on the wire in bytes.
    const SIZE_BYTES: usize;

    /// Reads one value.
    ///
    /// # Errors
    /// What `input` gives when its bytes end too early.
    fn decode<I: Input>(input: &mut I) -> Result<Self, I::Short>;
}

/// Where [`Wire`] values are read from.
pub trait Input {
    /// What is said when the bytes end too early.
    type Short;

    /// Takes the next `N` bytes.
    ///
    /// # Errors
    /// [`Input::Short`] when fewer are left.
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Self::Short>;
}

macro_rules! integers {
    ($($integer:ty),+) => {
        $(impl Wire for $integer {
            const SIZE_BYTES: usize = size_of::<Self>();

            fn decode<I: Input>(input: &mut I) -> Result<Self, I::Short> {
                input.take().map(Self::from_le_bytes)
            }
        })+
    };
}

integers!(u8, u16, u32, u64, i32);

impl<const N: usize> Wire for [u8; N] {
    const SIZE_BYTES: usize = N;

    fn decode<I: Input>(input: &mut I) -> Result<Self, I::Short> {
        input.take()
    }
}
