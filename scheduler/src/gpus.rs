//! The GPU devices of a host: what is free of each, and how many tasks have what of them.
//!
//! A share stays on one device; whole devices are taken one by one.

use cell::{GPU_DEVICE, GPU_DEVICE_COUNT_MAX, GpuRequest};

/// How many tasks with GPUs are on a host, by what they have of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuTally {
    /// Tasks with a share of one device.
    pub shares: u16,
    /// Tasks with so many whole devices, from one on.
    pub whole: [u8; GPU_DEVICE_COUNT_MAX],
}

impl GpuTally {
    /// How many kinds of tasks there are: those with a share, with one device, with two, and so on.
    pub(crate) fn kind_count(&self) -> usize {
        usize::from(self.shares > 0) + self.whole.iter().filter(|&&tasks| tasks > 0).count()
    }

    /// How many tasks are of the same kind as one with this request.
    pub(crate) fn like(&self, request: GpuRequest) -> u16 {
        match request.count {
            0 => 0,
            _ if request.milli_each < GPU_DEVICE => self.shares,
            count => u16::from(self.whole[count as usize - 1]),
        }
    }

    fn count(&mut self, request: GpuRequest, change: impl Fn(u16) -> u16) {
        if request.milli_each < GPU_DEVICE {
            self.shares = change(self.shares);
        } else {
            let tasks = &mut self.whole[request.count as usize - 1];
            *tasks = u8::try_from(change(u16::from(*tasks))).expect("one task a device at most");
        }
    }
}

/// The GPU devices of a host, each with what is free of it in milli-GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gpus {
    pub(crate) count: u32,
    pub(crate) free: [u16; GPU_DEVICE_COUNT_MAX],
    pub(crate) tally: GpuTally,
}

impl Gpus {
    #[expect(clippy::cast_possible_truncation, reason = "a device is 1000 milli-GPU")]
    const WHOLE: u16 = GPU_DEVICE.0 as u16;

    pub(crate) fn new(count: u32) -> Self {
        let mut free = [0; GPU_DEVICE_COUNT_MAX];
        free[..count as usize].fill(Self::WHOLE);
        Self { count, free, tally: GpuTally::default() }
    }

    /// What is free of each device, in milli-GPU, 0..=1000.
    #[must_use]
    pub fn devices(&self) -> &[u16] {
        &self.free[..self.count as usize]
    }

    /// Free milli-GPU over all devices.
    #[must_use]
    pub fn free_total(&self) -> u32 {
        self.devices().iter().map(|&free| u32::from(free)).sum()
    }

    /// The devices that a task would get, as bits: for a share the fullest device that has room (so
    /// that fragments stay together), for whole devices the first that are free. `None`: no room.
    #[must_use]
    pub fn choose(&self, request: GpuRequest) -> Option<u16> {
        let milli = request.milli_each.0;
        let fits = |&(_, free): &(usize, &u16)| u64::from(*free) >= milli;
        match request.count {
            0 => Some(0),
            1 => {
                let (device, _) =
                    self.devices().iter().enumerate().filter(fits).min_by_key(|&(_, free)| free)?;
                Some(1 << device)
            }
            count => {
                let chosen: Vec<usize> = self
                    .devices()
                    .iter()
                    .enumerate()
                    .filter(fits)
                    .map(|(device, _)| device)
                    .take(count as usize)
                    .collect();
                (chosen.len() == count as usize)
                    .then(|| chosen.iter().fold(0, |bits, device| bits | 1 << device))
            }
        }
    }

    /// Whether a request fits on exactly these devices.
    pub(crate) fn fits_on(&self, devices: u16, request: GpuRequest) -> bool {
        let chosen = || (0..self.count as usize).filter(|device| devices & (1 << device) != 0);
        devices.count_ones() == request.count
            && chosen().count() == request.count as usize
            && chosen().all(|device| u64::from(self.free[device]) >= request.milli_each.0)
    }

    /// Takes a request off these devices, as [`Gpus::choose`] chose them.
    pub fn take(&mut self, devices: u16, request: GpuRequest) {
        self.each(devices, |free| *free -= Self::share(request));
        if devices != 0 {
            self.tally.count(request, |tasks| tasks + 1);
        }
    }

    /// Gives back what a request took.
    pub fn give_back(&mut self, devices: u16, request: GpuRequest) {
        self.each(devices, |free| *free += Self::share(request));
        if devices != 0 {
            self.tally.count(request, |tasks| tasks - 1);
        }
    }

    fn share(request: GpuRequest) -> u16 {
        u16::try_from(request.milli_each.0).expect("a share is at most one device")
    }

    fn each(&mut self, devices: u16, change: impl Fn(&mut u16)) {
        for device in 0..self.count as usize {
            if devices & (1 << device) != 0 {
                change(&mut self.free[device]);
            }
        }
    }
}
