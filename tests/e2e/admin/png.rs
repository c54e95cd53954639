//! Reads the pictures of a browser: PNG (RFC 2083) of 8 bits in RGB or RGBA, not interlaced.

/// A picture, of which only the red samples are kept.
pub(super) struct Picture {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) red: Vec<u8>,
}

impl Picture {
    /// Reads a PNG file.
    pub(super) fn read(file: &[u8]) -> Self {
        let (mut width, mut height, mut samples, mut packed) = (0, 0, 0, Vec::new());
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap()) as usize;
        let mut rest = file.strip_prefix(b"\x89PNG\r\n\x1a\n").expect("a PNG file");
        while !rest.is_empty() {
            let (length, kind) = (number(&rest[..4]), &rest[4..8]);
            let data = &rest[8..8 + length];
            match kind {
                b"IHDR" => {
                    (width, height) = (number(&data[..4]), number(&data[4..8]));
                    samples = match data[8..13] {
                        [8, 2, 0, 0, 0] => 3,
                        [8, 6, 0, 0, 0] => 4,
                        _ => panic!("another kind of PNG: {data:?}"),
                    };
                }
                b"IDAT" => packed.extend_from_slice(data),
                _ => {}
            }
            rest = &rest[12 + length..];
        }
        let bytes = miniz_oxide::inflate::decompress_to_vec_zlib(&packed).expect("zlib");
        let mut before = vec![0_u8; width * samples];
        let mut red = Vec::with_capacity(width * height);
        for line in bytes.chunks_exact(1 + width * samples) {
            let mut now: Vec<u8> = line[1..].to_vec();
            for at in 0..now.len() {
                let left = if at < samples { 0 } else { now[at - samples] };
                let (up, corner) = (before[at], if at < samples { 0 } else { before[at - samples] });
                now[at] = now[at].wrapping_add(match line[0] {
                    0 => 0,
                    1 => left,
                    2 => up,
                    3 => ((u16::from(left) + u16::from(up)) / 2) as u8,
                    _ => paeth(left, up, corner),
                });
            }
            red.extend(now.iter().step_by(samples));
            before = now;
        }
        assert_eq!(red.len(), width * height);
        Self { width, height, red }
    }
}

/// The predictor of section 6.6.
fn paeth(left: u8, up: u8, corner: u8) -> u8 {
    let estimate = i16::from(left) + i16::from(up) - i16::from(corner);
    let distance = |sample: u8| (estimate - i16::from(sample)).abs();
    [left, up, corner].into_iter().min_by_key(|sample| distance(*sample)).unwrap()
}
