//! Ctrl-C and SIGTERM: everything that waits is told, so that no QEMU outlives the launcher.

use std::sync::Mutex;

use crate::error::{Error, Result};

struct Registry {
    requested: bool,
    next: u64,
    listeners: Vec<(u64, Box<dyn Fn() + Send>)>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { requested: false, next: 0, listeners: Vec::new() });

fn with<R>(f: impl FnOnce(&mut Registry) -> R) -> R {
    // The registry is consistent after every statement, so a panic elsewhere does not spoil it.
    f(&mut REGISTRY.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// Catches the signals from now on. Call it once.
///
/// # Errors
/// [`Error::Host`] if the handler cannot be installed.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        with(|registry| {
            registry.requested = true;
            registry.listeners.iter().for_each(|(_, listener)| listener());
        });
    })
    .map_err(Error::host("catching Ctrl-C"))
}

/// Whether the user wants to stop.
pub fn requested() -> bool {
    with(|registry| registry.requested)
}

/// Calls `listener` when (or at once, if) the user wants to stop, until the returned guard is dropped.
pub fn subscribe(listener: impl Fn() + Send + 'static) -> Subscription {
    with(|registry| {
        if registry.requested {
            listener();
        }
        registry.next += 1;
        registry.listeners.push((registry.next, Box::new(listener)));
        Subscription(registry.next)
    })
}

/// Keeps a listener registered.
#[derive(Debug)]
#[must_use]
pub struct Subscription(u64);

impl Drop for Subscription {
    fn drop(&mut self) {
        with(|registry| registry.listeners.retain(|(id, _)| *id != self.0));
    }
}
