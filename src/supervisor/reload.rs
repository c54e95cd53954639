//! Reads the configuration again, upon SIGHUP or a command's request.

use super::context::Context;
use super::mode::Mode;

impl Context {
    /// Reads the configuration again, and restores the state of the host, which other programs may
    /// have removed meanwhile. Returns the number with which the tunnel process acknowledges its
    /// part.
    ///
    /// # Errors
    /// The reason why the configuration stays as it is, which was logged.
    pub(in crate::supervisor) fn reload(&mut self, mode: &mut impl Mode) -> Result<u32, String> {
        self.notify_reloading();
        let result = mode.reload(self);
        self.reconcile_unlimited(mode);
        self.link.identity.retry(self.now);
        self.send_host(mode);
        self.notify_ready();
        result
    }
}
