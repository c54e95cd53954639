//! Options for the delivery of a client's configuration.

use std::path::PathBuf;

use clap::Args;

/// Destination of a client's configuration.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct DeliveryOptions {
    /// Write the configuration to a new file of mode 0600 instead of standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Print the configuration as a QR code: on a terminal instead of the text, which is offered
    /// then; else on standard error, too
    #[arg(long)]
    pub qr: bool,

    /// With --qr on a terminal, print the text, too
    #[arg(long, requires = "qr")]
    pub text: bool,

    /// Also write the configuration as a QR code, to a new SVG file of mode 0600
    #[arg(long, value_name = "FILE")]
    pub qr_file: Option<PathBuf>,
}
