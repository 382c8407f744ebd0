/// Why no document can be made. No variant carries an attribute's value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The content time is no date and time: the caller's clock is wrong.
    #[error("the content time is not a date and time of the form YYYYMMDDHHMMSS")]
    ContentTime,
    /// The source has no identity to report on: never guessed, so no report is made.
    #[error("the source instance cannot be reported on: {0}")]
    Identity(#[from] dataset::Error),
    /// Bytes of the patient's name, ID or its issuer, or of the accession number, are no characters of the declared set, or
    /// of none where none is declared.
    #[error(
        "{keyword} of the images has bytes that are no characters of its Specific Character Set (0008,0005), or of any \
         without one: whose study it is would be a guess; correct it at the source and send the study again"
    )]
    Undecodable {
        /// The attribute.
        keyword: String,
    },
    /// The list of analysed instances is empty: a report says what it was made from (PS3.3 C.17.2.3).
    #[error("no analysed instance is named: a report must reference what it was made from")]
    NoEvidence,
    /// A value is longer than the 2 or 4 byte length of its element can say (PS3.5 section 7.1).
    #[error("{tag} is too long to be written")]
    TooLong {
        /// The element.
        tag: dicom_core::Tag,
    },
    /// An outline cannot be drawn: too few points, points that are no numbers, a frame 0, or a line without its length.
    #[error("a finding's outline cannot be drawn: too few points, or points that are no numbers")]
    Region,
    /// A measured value is no number, or a probability is not between 0 and 100 percent.
    #[error("a measured value is no number, or a probability is not between 0 and 100 percent")]
    Number,
    /// The picture cannot be drawn: its pixels do not fit its size.
    #[error("the picture of {width} by {height} has {pixels} samples")]
    Picture {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// Samples given.
        pixels: usize,
    },
    /// The PNG encoder failed.
    #[error("the PNG cannot be written: {0}")]
    Png(#[from] png::EncodingError),
    /// A policy names a check that there is none of.
    #[error("there is no check \"{name}\"; there are the severities {severities} and the kinds {kinds}")]
    Check {
        /// What was named.
        name: String,
        /// The severities there are.
        severities: String,
        /// The kinds there are.
        kinds: String,
    },
    /// A figure of the PDF cannot be compressed.
    #[error("a figure of the PDF cannot be compressed: {0}")]
    Compression(std::io::Error),
}
