//! The layout of the pages: text in lines, a figure, and on every page whose report it is and what it is.

use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, TextStr};

use super::font::{Fonts, Weight};
use crate::{Error, heatmap::Raster};

/// A4 in points.
const PAGE: (f32, f32) = (595.0, 842.0);
const MARGIN: f32 = 56.0;
const SIZE: f32 = 10.0;
const LEADING: f32 = 14.0;
/// The widest a figure is stored, in pixels: finer than it is printed.
const FIGURE_PIXELS: usize = 900;

/// What stands at the head of every page.
pub(super) struct Head {
    /// That it is a draft, in red.
    pub(super) warning: String,
    /// Patient and study.
    pub(super) lines: Vec<String>,
}

/// A part of the document, from top to bottom.
pub(super) enum Block<'a> {
    Heading(&'a str),
    Line(&'a str),
    Figure { picture: &'a Raster, caption: &'a str },
}

/// The pages as they are filled.
struct Pages<'a> {
    fonts: Fonts,
    head: &'a Head,
    pages: Vec<Content>,
    y: f32,
}

/// The PDF. `identity` makes its file identifier: the same document has the same bytes.
pub(super) fn pdf(title: &str, head: &Head, blocks: &[Block<'_>], identity: &[u8]) -> Result<Vec<u8>, Error> {
    let mut pages = Pages { fonts: Fonts::new(), head, pages: Vec::new(), y: 0.0 };
    pages.begin();
    let mut figures = Vec::new();
    for block in blocks {
        match block {
            Block::Heading(text) => pages.heading(text),
            Block::Line(text) => pages.paragraph(text, SIZE, 10.0),
            Block::Figure { picture, caption } => {
                pages.figure(picture, caption, figures.len());
                figures.push(*picture);
            }
        }
    }
    pages.number();
    pages.write(title, &figures, identity)
}

impl Pages<'_> {
    fn page(&mut self) -> &mut Content {
        if self.pages.is_empty() {
            self.pages.push(Content::new());
        }
        let last = self.pages.len() - 1;
        &mut self.pages[last]
    }

    /// A new page with its head.
    fn begin(&mut self) {
        self.pages.push(Content::new());
        self.y = PAGE.1 - MARGIN;
        let head = self.head;
        self.page().set_fill_rgb(0.75, 0.0, 0.0);
        self.line(&head.warning, MARGIN, 11.0, Weight::Bold);
        self.page().set_fill_rgb(0.0, 0.0, 0.0);
        self.y -= LEADING + 2.0;
        for text in &head.lines {
            for wrapped in self.wrap(text, 9.0, PAGE.0 - 2.0 * MARGIN) {
                self.line(&wrapped, MARGIN, 9.0, Weight::Regular);
                self.y -= 12.0;
            }
        }
        let y = self.y + 4.0;
        self.page().move_to(MARGIN, y).line_to(PAGE.0 - MARGIN, y).stroke();
        self.y -= LEADING;
    }

    /// Starts a new page where `height` does not fit on this one.
    fn room(&mut self, height: f32) {
        if self.y - height < MARGIN {
            self.begin();
        }
    }

    fn line(&mut self, text: &str, x: f32, size: f32, weight: Weight) {
        let (y, last) = (self.y, self.pages.len().saturating_sub(1));
        if let Some(page) = self.pages.get_mut(last) {
            self.fonts.show(page, (x, y), size, weight, text);
        }
    }

    fn heading(&mut self, text: &str) {
        self.room(3.0 * LEADING);
        self.y -= 6.0;
        self.line(text, MARGIN, 12.0, Weight::Bold);
        self.y -= LEADING + 2.0;
    }

    fn paragraph(&mut self, text: &str, size: f32, indent: f32) {
        for line in text.lines() {
            for wrapped in self.wrap(line, size, PAGE.0 - 2.0 * MARGIN - indent) {
                self.room(LEADING);
                self.line(&wrapped, MARGIN + indent, size, Weight::Regular);
                self.y -= LEADING;
            }
        }
    }

    /// Lines that are no wider than `width`, broken at spaces; a word that is wider is broken where it must.
    fn wrap(&mut self, text: &str, size: f32, width: f32) -> Vec<String> {
        let (mut lines, mut line) = (Vec::new(), String::new());
        for word in text.split_inclusive(' ') {
            if !line.is_empty() && self.fonts.width(&line, size) + self.fonts.width(word.trim_end(), size) > width {
                lines.push(std::mem::take(&mut line));
            }
            for c in word.chars() {
                if !line.is_empty()
                    && c != ' '
                    && self.fonts.width(&line, size) + self.fonts.width(&c.to_string(), size) > width
                {
                    lines.push(std::mem::take(&mut line));
                }
                line.push(c);
            }
        }
        if !line.trim().is_empty() {
            lines.push(line);
        }
        lines.iter_mut().for_each(|line| *line = line.trim_end().to_owned());
        lines
    }

    fn figure(&mut self, picture: &Raster, caption: &str, number: usize) {
        let (width, height) = (picture.width.max(1) as f32, picture.height.max(1) as f32);
        let scale = ((PAGE.0 - 2.0 * MARGIN) / width).min(380.0 / height);
        let (width, height) = (width * scale, height * scale);
        self.room(height + 3.0 * LEADING);
        self.y -= height;
        let y = self.y;
        let page = self.page();
        page.save_state().transform([width, 0.0, 0.0, height, MARGIN, y]);
        page.x_object(Name(format!("I{number}").as_bytes())).restore_state();
        self.y -= LEADING;
        self.paragraph(caption, 9.0, 0.0);
    }

    /// The numbers at the foot, once it is known how many there are.
    fn number(&mut self) {
        let count = self.pages.len();
        for (number, page) in (1..).zip(&mut self.pages) {
            let text = format!("Page {number} of {count}");
            self.fonts.show(page, (MARGIN, MARGIN - 24.0), 8.0, Weight::Regular, &text);
        }
    }

    fn write(mut self, title: &str, figures: &[&Raster], identity: &[u8]) -> Result<Vec<u8>, Error> {
        let mut last = 0;
        let mut next = || {
            last += 1;
            Ref::new(last)
        };
        let (catalog, tree, information) = (next(), next(), next());
        let page_ids: Vec<(Ref, Ref)> = self.pages.iter().map(|_| (next(), next())).collect();
        let image_ids: Vec<Ref> = figures.iter().map(|_| next()).collect();
        let fonts = next();
        // The fonts stand one behind the other.
        (1..self.fonts.count()).for_each(|_| {
            next();
        });
        let mut pdf = Pdf::new();
        pdf.catalog(catalog).pages(tree);
        pdf.document_info(information).title(TextStr(title)).producer(TextStr("preread"));
        pdf.set_file_id((identity.to_vec(), identity.to_vec()));
        let count = i32::try_from(page_ids.len()).unwrap_or(i32::MAX);
        pdf.pages(tree).kids(page_ids.iter().map(|(page, _)| *page)).count(count);
        for ((page_id, content_id), content) in page_ids.into_iter().zip(std::mem::take(&mut self.pages)) {
            let mut page = pdf.page(page_id);
            page.media_box(Rect::new(0.0, 0.0, PAGE.0, PAGE.1)).parent(tree).contents(content_id);
            let mut resources = page.resources();
            self.fonts.list(&mut resources, fonts);
            let mut images = resources.x_objects();
            for (number, id) in image_ids.iter().enumerate() {
                images.pair(Name(format!("I{number}").as_bytes()), *id);
            }
            images.finish();
            resources.finish();
            page.finish();
            pdf.stream(content_id, &content.finish());
        }
        for (id, picture) in image_ids.into_iter().zip(figures) {
            let picture = picture.reduced(FIGURE_PIXELS);
            let deflated = picture.deflated()?;
            let mut image = pdf.image_xobject(id, &deflated);
            let side = |length: usize| i32::try_from(length).unwrap_or(i32::MAX);
            image.filter(Filter::FlateDecode);
            image.width(side(picture.width)).height(side(picture.height));
            image.color_space().device_rgb();
            image.bits_per_component(8);
        }
        self.fonts.write(&mut pdf, fonts, &mut next);
        Ok(pdf.finish())
    }
}
