//! Trace rings: what a CPU did last, as fixed-size typed records.
//!
//! A ring has one writer, which never waits and overwrites the oldest record, and any number of readers in other address
//! spaces, which only load. It lies in whole pages ([`Page`]): a header, then records of 32 bytes. What an event is says [`Event`].
//!
//! ```
//! use skerry_trace::{Event, Page, Reader, Writer};
//! let pages = [const { Page::ZERO }; 1];
//! let writer = Writer::new(&pages).unwrap();
//! writer.push(17, Event::Interrupt { irq: 33 });
//! let mut reader = Reader::new(&pages).unwrap();
//! let record = reader.next().unwrap();
//! assert_eq!((record.time, record.event), (17, Event::Interrupt { irq: 33 }));
//! assert!(reader.next().is_none() && reader.lost() == 0);
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod event;
mod ring;

pub use event::{Event, Record};
pub use ring::{Page, Reader, Writer};
