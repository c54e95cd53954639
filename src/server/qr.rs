//! Encodes a text as a QR code (ISO/IEC 18004), for a terminal and as SVG.
//!
//! The text contains a private key, so the encoder works in buffers of its caller, which are wiped.

use std::fmt::Write as _;

use qrcodegen_no_heap::{QrCode as Encoder, QrCodeEcc, Version};
use zeroize::Zeroizing;

use super::error::ServerError;
use crate::uapi::SecretText;

/// Width of the quiet zone in modules, which a reader needs to find the code (section 6.3.8).
const QUIET: usize = 4;
/// Black on white regardless of the terminal's colours: phones do not read inverted codes.
const BLACK_ON_WHITE: &str = "\x1b[38;5;16;48;5;231m";
const RESET: &str = "\x1b[0m";

/// A square of dark and light modules.
#[derive(Clone)]
pub(crate) struct QrCode {
    size: usize,
    /// The modules, row by row.
    dark: Zeroizing<Vec<bool>>,
}

impl QrCode {
    /// Returns the smallest code for `data`, with the highest error correction that fits into its
    /// size.
    ///
    /// # Errors
    /// [`ServerError::TooLongForQr`]: more than 2,953 bytes.
    pub(crate) fn new(data: &[u8]) -> Result<Self, ServerError> {
        let mut buffer = Zeroizing::new([0; Version::MAX.buffer_len()]);
        let mut out = Zeroizing::new([0; Version::MAX.buffer_len()]);
        buffer.get_mut(..data.len()).ok_or(ServerError::TooLongForQr)?.copy_from_slice(data);
        let (min, max) = (Version::MIN, Version::MAX);
        let code =
            Encoder::encode_binary(&mut *buffer, data.len(), &mut *out, QrCodeEcc::Low, min, max, None, true)
                .map_err(|_| ServerError::TooLongForQr)?;
        let side = 0..code.size();
        let mut dark = Zeroizing::new(Vec::with_capacity(side.len() * side.len()));
        for y in side.clone() {
            dark.extend(side.clone().map(|x| code.get_module(x, y)));
        }
        Ok(Self { size: side.len(), dark })
    }

    /// Returns the code for a terminal with UTF-8 and colours: each character shows two modules,
    /// one above the other.
    pub(crate) fn terminal(&self) -> Zeroizing<Vec<u8>> {
        let mut text = SecretText::default();
        let side = self.size + 2 * QUIET;
        for y in (0..side).step_by(2) {
            text.push(BLACK_ON_WHITE.as_bytes());
            for x in 0..side {
                let pair = match (self.is_dark(x, y), self.is_dark(x, y + 1)) {
                    (true, true) => "█",
                    (true, false) => "▀",
                    (false, true) => "▄",
                    (false, false) => " ",
                };
                text.push(pair.as_bytes());
            }
            text.push(RESET.as_bytes());
            text.push(b"\n");
        }
        text.into_inner()
    }

    /// Returns the code as an SVG document.
    pub(crate) fn svg(&self) -> Zeroizing<Vec<u8>> {
        let mut text = SecretText::default();
        let side = self.size + 2 * QUIET;
        // writing to memory does not fail
        let _ = write!(
            text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\n\
             <rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/>\n<path d=\""
        );
        for y in 0..side {
            let mut x = 0;
            while x < side {
                let run = (x..side).take_while(|&x| self.is_dark(x, y)).count();
                if run > 0 {
                    let _ = write!(text, "M{x} {y}h{run}v1h-{run}z");
                }
                x += run.max(1);
            }
        }
        text.push(b"\"/>\n</svg>\n");
        text.into_inner()
    }

    /// Returns true if the module is dark. The coordinates include the quiet zone.
    fn is_dark(&self, x: usize, y: usize) -> bool {
        let inside = |place: usize| place.checked_sub(QUIET).filter(|place| *place < self.size);
        let place = inside(x).zip(inside(y)).map(|(x, y)| y * self.size + x);
        place.and_then(|place| self.dark.get(place)).is_some_and(|&dark| dark)
    }
}

impl std::fmt::Debug for QrCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "QrCode({} modules a side)", self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the content that a reader decodes from an image with `SCALE` pixels per module.
    fn scanned(rows: &[Vec<bool>]) -> Result<Vec<u8>, String> {
        const SCALE: usize = 4;
        let (width, height) = (rows[0].len() * SCALE, rows.len() * SCALE);
        let mut picture = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
            if rows[y / SCALE][x / SCALE] { 0 } else { 255 }
        });
        let codes = picture.detect_grids();
        let [code] = codes.as_slice() else { return Err(format!("{} codes in the picture", codes.len())) };
        let mut data = Vec::new();
        code.decode_to(&mut data).map_err(|error| format!("{error:?}"))?;
        Ok(data)
    }

    /// Returns the picture after a quarter turn.
    fn turned(rows: &[Vec<bool>]) -> Vec<Vec<bool>> {
        (0..rows[0].len()).map(|x| rows.iter().rev().map(|row| row[x]).collect()).collect()
    }

    /// Returns the modules that a terminal shows.
    fn on_terminal(text: &str) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in text.lines() {
            let line = line.strip_prefix(BLACK_ON_WHITE).unwrap().strip_suffix(RESET).unwrap();
            rows.push(line.chars().map(|c| matches!(c, '█' | '▀')).collect());
            rows.push(line.chars().map(|c| matches!(c, '█' | '▄')).collect());
        }
        rows
    }

    /// Returns the modules that a browser paints: the rectangles of the path.
    fn painted(svg: &str) -> Vec<Vec<bool>> {
        let side: usize =
            svg.split("viewBox=\"0 0 ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let mut rows = vec![vec![false; side]; side];
        let path = svg.split("<path d=\"").nth(1).unwrap().split('"').next().unwrap();
        for rectangle in path.split_terminator('z') {
            let (place, size) = rectangle.strip_prefix('M').unwrap().split_once('h').unwrap();
            let (x, y) = place.split_once(' ').unwrap();
            let (width, back) = size.split_once("v1h-").unwrap();
            assert_eq!(width, back);
            let (x, y, width): (usize, usize, usize) =
                (x.parse().unwrap(), y.parse().unwrap(), width.parse().unwrap());
            rows[y][x..x + width].fill(true);
        }
        rows
    }

    /// Checks that a reader decodes `data`, after at most `turns` quarter turns of the picture.
    fn check(data: &[u8], turns: usize) {
        let read = |mut rows: Vec<Vec<bool>>| {
            for _ in 0..turns {
                if let Ok(data) = scanned(&rows) {
                    return data;
                }
                rows = turned(&rows);
            }
            scanned(&rows).unwrap()
        };
        let code = QrCode::new(data).unwrap();
        let terminal = String::from_utf8(code.terminal().to_vec()).unwrap();
        assert_eq!(read(on_terminal(&terminal)), data, "on a terminal");
        let svg = String::from_utf8(code.svg().to_vec()).unwrap();
        assert_eq!(read(painted(&svg)), data, "as SVG");
    }

    #[test]
    fn a_reader_reads_what_was_written() {
        for length in [1, 17, 100, 350, 500] {
            let text: Vec<u8> = (b'a'..=b'z').cycle().step_by(7).take(length).collect();
            check(&text, 0);
        }
    }

    #[test]
    fn a_clients_file_fits_a_terminal_of_80_columns() {
        // the longest usual content: a full tunnel, both families, a name of 30 characters
        let code = QrCode::new(&[b'x'; 400]).unwrap();
        assert!(code.size + 2 * QUIET <= 80, "{code:?}");
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert!(QrCode::new(&[b'x'; 2953]).is_ok());
        for length in [2954, 3917, 3918, 10_000] {
            assert!(matches!(QrCode::new(&vec![b'x'; length]), Err(ServerError::TooLongForQr)), "{length}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_text(text in "[ -~\n]{1,400}") {
            // of some texts, one in ten thousand, this reader takes other modules for those in the
            // code's corner; which these are depends on how it is turned
            check(text.as_bytes(), 3);
        }
    }
}
