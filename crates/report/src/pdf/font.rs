//! The fonts of a page. Latin text is Helvetica, one of the fonts that every reader of PDF has. Every other character is
//! drawn from GNU Unifont as a Type 3 font, embedded and mapped to Unicode: a name in another script is the name, on the
//! page, in a search and in the clipboard, without tens of megabytes of fonts.

use pdf_writer::{
    Content, Finish, Name, Pdf, Rect, Ref, Str,
    types::{SystemInfo, UnicodeCmap},
    writers::Resources,
};
use unicode_width::UnicodeWidthChar;
use unifont_bitmap::Unifont;

/// Widths of Helvetica in thousandths of its size, from U+0020 (Adobe's font metrics).
#[rustfmt::skip]
const ASCII: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278,
    556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556,
    1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778,
    667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556,
    333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556,
    556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];

/// The same from U+00A0.
#[rustfmt::skip]
const LATIN_1: [u16; 96] = [
    278, 333, 556, 556, 556, 556, 260, 556, 333, 737, 370, 556, 584, 333, 737, 333,
    400, 584, 333, 333, 333, 556, 537, 278, 333, 333, 365, 556, 834, 834, 834, 611,
    667, 667, 667, 667, 667, 667, 1000, 722, 667, 667, 667, 667, 278, 278, 278, 278,
    722, 722, 778, 778, 778, 778, 778, 584, 778, 722, 722, 722, 722, 667, 667, 611,
    556, 556, 556, 556, 556, 556, 889, 500, 556, 556, 556, 556, 278, 278, 278, 278,
    556, 556, 556, 556, 556, 556, 556, 584, 611, 556, 556, 556, 556, 500, 556, 500,
];

/// Rows of a glyph of Unifont, which is also the size of its em; two of them lie below the line.
const EM: u8 = 16;
const DESCENT: u8 = 2;

/// Text is set in one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Regular,
    Bold,
}

/// The characters that Helvetica does not have, in the order in which they were met: 255 in each Type 3 font.
pub(super) struct Fonts {
    unifont: Unifont,
    met: Vec<char>,
}

/// Characters of one font: its index, where 0 and 1 are Helvetica and Helvetica-Bold, and the codes.
type Run = (usize, Vec<u8>);

impl Fonts {
    pub(super) fn new() -> Self {
        Self { unifont: Unifont::open(), met: Vec::new() }
    }

    /// How wide a text is, in points.
    pub(super) fn width(&mut self, text: &str, size: f32) -> f32 {
        text.chars().map(|c| self.advance(c) * size).sum()
    }

    /// How far a character goes, of its size.
    fn advance(&mut self, c: char) -> f32 {
        match helvetica(c) {
            Some(width) => f32::from(width) / 1000.0,
            None => f32::from(self.cells(c)) / f32::from(EM),
        }
    }

    /// How many columns a character of Unifont takes; none for one that goes over the character before it.
    fn cells(&mut self, c: char) -> u8 {
        match c.width() {
            Some(0) => 0,
            _ if self.unifont.load_bitmap(u32::from(c)).is_wide() => 16,
            _ => 8,
        }
    }

    /// The text in runs of one font each, right-to-left parts in the order in which they are seen.
    fn runs(&mut self, text: &str, weight: Weight) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for c in visual(text).chars() {
            let (font, code) = match (helvetica(c), u8::try_from(u32::from(c))) {
                (Some(_), Ok(code)) => (usize::from(weight == Weight::Bold), code),
                _ => self.other(c),
            };
            match runs.last_mut() {
                Some((last, codes)) if *last == font => codes.push(code),
                _ => runs.push((font, vec![code])),
            }
        }
        runs
    }

    /// Font and code of a character that Helvetica does not have.
    fn other(&mut self, c: char) -> (usize, u8) {
        let at = self.met.iter().position(|met| *met == c).unwrap_or_else(|| {
            self.met.push(c);
            self.met.len() - 1
        });
        // 1 to 255: the remainder fits.
        (2 + at / 255, u8::try_from(at % 255 + 1).unwrap_or(u8::MAX))
    }

    /// Shows a line of text with its left end at a place, counted from the lower left corner of the page, in points.
    pub(super) fn show(&mut self, page: &mut Content, (x, y): (f32, f32), size: f32, weight: Weight, text: &str) {
        page.begin_text().set_text_matrix([1.0, 0.0, 0.0, 1.0, x, y]);
        for (font, codes) in self.runs(text, weight) {
            page.set_font(Name(name(font).as_bytes()), size).show(Str(&codes));
        }
        page.end_text();
    }

    /// Names the fonts in the resources of a page; `first` is the reference of the first.
    pub(super) fn list(&self, resources: &mut Resources<'_>, first: Ref) {
        let mut fonts = resources.fonts();
        for number in 0..self.count() {
            // A page's few fonts.
            let offset = i32::try_from(number).unwrap_or_default();
            fonts.pair(Name(name(number).as_bytes()), Ref::new(first.get() + offset));
        }
        fonts.finish();
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        2 + self.met.len().div_ceil(255)
    }

    /// Writes the fonts. `next` makes new references.
    pub(super) fn write(&mut self, pdf: &mut Pdf, first: Ref, next: &mut dyn FnMut() -> Ref) {
        for (number, base) in [&b"Helvetica"[..], b"Helvetica-Bold"].into_iter().enumerate() {
            let id = Ref::new(first.get() + i32::from(number == 1));
            let mut font = pdf.type1_font(id);
            font.base_font(Name(base)).encoding_predefined(Name(b"WinAnsiEncoding"));
            if number == 0 {
                // A reader that sets another font in its place keeps to the lines with these.
                let width = |code: u8| helvetica(char::from(code)).map_or(0.0, f32::from);
                font.first_char(0x20).last_char(0xFF).widths((0x20..=0xFF).map(width));
            }
        }
        let met = self.met.clone();
        for (number, characters) in (2..).zip(met.chunks(255)) {
            self.write_type_3(pdf, Ref::new(first.get() + number), characters, next);
        }
    }

    fn write_type_3(&mut self, pdf: &mut Pdf, id: Ref, characters: &[char], next: &mut dyn FnMut() -> Ref) {
        let procedures: Vec<(String, Ref)> =
            characters.iter().map(|c| (format!("u{:04X}", u32::from(*c)), next())).collect();
        let to_unicode = next();
        let widths: Vec<f32> = characters.iter().map(|c| f32::from(self.cells(*c))).collect();
        let unit = 1.0 / f32::from(EM);
        let mut font = pdf.type3_font(id);
        font.bbox(Rect::new(-f32::from(EM), -f32::from(DESCENT), f32::from(EM), f32::from(EM - DESCENT)));
        font.matrix([unit, 0.0, 0.0, unit, 0.0, 0.0]);
        let mut dictionary = font.char_procs();
        for (name, procedure) in &procedures {
            dictionary.pair(Name(name.as_bytes()), *procedure);
        }
        dictionary.finish();
        let names = procedures.iter().map(|(name, _)| Name(name.as_bytes()));
        font.encoding_custom().differences().consecutive(1, names);
        font.first_char(1).last_char(u8::try_from(characters.len()).unwrap_or(u8::MAX)).widths(widths.iter().copied());
        font.resources();
        font.to_unicode(to_unicode);
        font.finish();
        let info = SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"UCS"), supplement: 0 };
        let mut map = UnicodeCmap::new(Name(b"Adobe-Identity-UCS"), info);
        for (code, (c, (_, procedure))) in (1_u8..).zip(characters.iter().zip(&procedures)) {
            map.pair(code, *c);
            let glyph = self.glyph(*c);
            pdf.stream(*procedure, &glyph);
        }
        let map = map.finish();
        pdf.cmap(to_unicode, &map);
    }

    /// A glyph's drawing: a rectangle for each stretch of set pixels of a row.
    fn glyph(&mut self, c: char) -> Vec<u8> {
        let cells = self.cells(c);
        let bitmap = self.unifont.load_bitmap(u32::from(c));
        let (bytes, columns) = (bitmap.get_bytes(), if bitmap.is_wide() { 16_u8 } else { 8 });
        let pitch = usize::from(columns / 8);
        // One that goes over the character before it is drawn to the left of where it stands.
        let left = if cells == 0 { -f32::from(columns) } else { 0.0 };
        let mut drawing = Content::new();
        let (bottom, top) = (-f32::from(DESCENT), f32::from(EM - DESCENT));
        drawing.start_shape_glyph(f32::from(cells), left, bottom, left + f32::from(columns), top);
        for row in 0..EM {
            let is_set = |column: u8| {
                let byte = bytes.get(usize::from(row) * pitch + usize::from(column / 8));
                byte.is_some_and(|byte| byte >> (7 - column % 8) & 1 == 1)
            };
            let mut column = 0;
            while column < columns {
                let start = column;
                while column < columns && is_set(column) {
                    column += 1;
                }
                if column > start {
                    let y = f32::from(EM - DESCENT - 1) - f32::from(row);
                    drawing.rect(left + f32::from(start), y, f32::from(column - start), 1.0);
                }
                column += 1;
            }
        }
        drawing.fill_nonzero();
        drawing.finish().into_vec()
    }
}

fn name(font: usize) -> String {
    format!("F{font}")
}

/// The width of a character that Helvetica has under the same code in WinAnsi as in Unicode.
fn helvetica(c: char) -> Option<u16> {
    match u32::from(c) {
        code @ 0x20..=0x7E => ASCII.get(code as usize - 0x20).copied(),
        code @ 0xA0..=0xFF => LATIN_1.get(code as usize - 0xA0).copied(),
        _ => None,
    }
}

/// The text in the order in which it is seen from left to right (Unicode Standard Annex 9), each line a paragraph.
fn visual(text: &str) -> String {
    let info = unicode_bidi::BidiInfo::new(text, None);
    let lines = info.paragraphs.iter().map(|paragraph| info.reorder_line(paragraph, paragraph.range.clone()));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_set_in_the_font_that_has_them() {
        let mut fonts = Fonts::new();
        let check = |fonts: &mut Fonts, text: &str, expected: &[(usize, &[u8])]| {
            let runs = fonts.runs(text, Weight::Regular);
            let runs: Vec<(usize, &[u8])> = runs.iter().map(|(font, codes)| (*font, codes.as_slice())).collect();
            assert_eq!(runs, expected, "{text}");
        };
        check(&mut fonts, "Doe", &[(0, b"Doe")]);
        check(&mut fonts, "M\u{fc}ller", &[(0, b"M\xfcller")]);
        check(&mut fonts, "a山b田山", &[(0, b"a"), (2, &[1]), (0, b"b"), (2, &[2, 1])]);
        // Hebrew is seen from right to left: the last letter comes first.
        check(&mut fonts, "שר", &[(2, &[3, 4])]);
        assert_eq!(fonts.met, ['山', '田', 'ר', 'ש']);
        let many: String = (0x4E00..0x4E00 + 300).filter_map(char::from_u32).collect();
        assert_eq!(fonts.runs(&many, Weight::Bold).len(), 2, "two fonts");
        assert_eq!((fonts.width("山", 16.0), fonts.width("Люк", 16.0)), (16.0, 24.0));
        let glyph = String::from_utf8(fonts.glyph('山')).unwrap();
        assert!(glyph.contains(" d1") && glyph.matches(" re").count() > 10, "{glyph}");
    }
}
