//! What is written to a file and read from it, plain or compressed (gzip, which every host can read).
//!
//! A file says by its first bytes what it is. Behind the end of what was compressed there is nothing.

use super::growing::Growing;
#[cfg(feature = "gzip")]
use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 20;
/// First bytes of what gzip compressed (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A file that is being written.
#[derive(Debug)]
pub(super) enum Output<'a> {
    Plain(Growing<'a>),
    #[cfg(feature = "gzip")]
    Gzip(Box<GzEncoder<Growing<'a>>>),
}

impl<'a> Output<'a> {
    pub(super) fn new(to: &'a File, is_compressed: bool) -> io::Result<Self> {
        let plain = Growing::new(to);
        match is_compressed {
            false => Ok(Self::Plain(plain)),
            // Snapshots are frequent, so fast.
            #[cfg(feature = "gzip")]
            true => Ok(Self::Gzip(Box::new(GzEncoder::new(plain, Compression::fast())))),
            #[cfg(not(feature = "gzip"))]
            true => Err(io::Error::other(NO_GZIP)),
        }
    }

    /// Writes what was held back.
    pub(super) fn finish(self) -> io::Result<()> {
        let plain = match self {
            Self::Plain(plain) => plain,
            #[cfg(feature = "gzip")]
            Self::Gzip(encoder) => encoder.finish()?,
        };
        plain.finish()
    }
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.write(bytes),
            #[cfg(feature = "gzip")]
            Self::Gzip(encoder) => encoder.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(not(feature = "gzip"))]
const NO_GZIP: &str = "it is compressed: this build of membus lacks the feature `gzip`";

/// A file that is read from its beginning.
#[derive(Debug)]
pub(super) enum Input<'a> {
    Plain(BufReader<&'a File>),
    #[cfg(feature = "gzip")]
    Gzip(Box<GzDecoder<BufReader<&'a File>>>),
}

impl<'a> Input<'a> {
    pub(super) fn new(mut file: &'a File) -> io::Result<Self> {
        file.rewind()?;
        let mut plain = BufReader::with_capacity(BUFFER, file);
        while let Err(error) = plain.fill_buf() {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        match plain.buffer().starts_with(&GZIP) {
            false => Ok(Self::Plain(plain)),
            #[cfg(feature = "gzip")]
            true => Ok(Self::Gzip(Box::new(GzDecoder::new(plain)))),
            #[cfg(not(feature = "gzip"))]
            true => Err(io::Error::other(NO_GZIP)),
        }
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.read(buffer),
            #[cfg(feature = "gzip")]
            Self::Gzip(decoder) => {
                let read = decoder.read(buffer)?;
                if read == 0 && !buffer.is_empty() && !decoder.get_mut().fill_buf()?.is_empty() {
                    return Err(io::Error::other("bytes follow what was compressed"));
                }
                Ok(read)
            }
        }
    }
}
