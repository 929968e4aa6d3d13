//! Reading a sample from every dtype, both carriers and any chunks.
