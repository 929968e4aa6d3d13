//! Floor 6: doors.
