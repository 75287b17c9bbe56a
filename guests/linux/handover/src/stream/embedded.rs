//! The traits that bare-metal code is written for: what the standard library's do, under the same names.

use std::io;

use embedded_io::{BufRead, ErrorType, Read, ReadReady, Write, WriteReady};

use super::{ReadHalf, Stream, WriteHalf};

macro_rules! reads {
    ($($type:ty),*) => {
        $(
            impl Read for $type {
                fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                    io::Read::read(self, buffer)
                }
            }

            impl BufRead for $type {
                fn fill_buf(&mut self) -> io::Result<&[u8]> {
                    io::BufRead::fill_buf(self)
                }

                fn consume(&mut self, count: usize) {
                    io::BufRead::consume(self, count);
                }
            }

            impl ReadReady for $type {
                fn read_ready(&mut self) -> io::Result<bool> {
                    <$type>::read_ready(self)
                }
            }
        )*
    };
}

macro_rules! writes {
    ($($type:ty),*) => {
        $(
            impl Write for $type {
                fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                    io::Write::write(self, bytes)
                }

                fn flush(&mut self) -> io::Result<()> {
                    Ok(())
                }
            }

            impl WriteReady for $type {
                fn write_ready(&mut self) -> io::Result<bool> {
                    <$type>::write_ready(self)
                }
            }
        )*
    };
}

impl ErrorType for Stream {
    type Error = io::Error;
}

impl ErrorType for ReadHalf<'_> {
    type Error = io::Error;
}

impl ErrorType for WriteHalf<'_> {
    type Error = io::Error;
}

reads!(Stream, ReadHalf<'_>);
writes!(Stream, WriteHalf<'_>);
