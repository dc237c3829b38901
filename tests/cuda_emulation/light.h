// For the CUDA text of an op that Jittor takes for the CPU's: copies of its variables in the device's memory. device.h before it.
#pragma once
#define __CUDACC__ 1
#define __CUDA_ARCH__ 900

namespace emulation {

inline Memory& memory() {
    static Memory memory;
    return memory;
}
inline Counts& counts() {
    static Counts counts;
    return counts;
}

// A variable's numbers on the device while the op runs; an input cannot be written there.
class Copy {
public:
    enum Kind { INPUT, OUTPUT, IN_PLACE };

    Copy(void* host, size_t size, Kind kind) : host_(host), size_(size), kind_(kind), data_(memory().take(size)) {
        if (!data_) fail("out of memory");
        if (kind != OUTPUT) {
            Open open;
            open.add(data_, size, "an op");
            memcpy(data_, host, size);
        }
        memory().at(data_)->may_be_written = kind != INPUT;
    }
    Copy(const Copy&) = delete;
    ~Copy() { memory().give_back(data_); }

    template <class T> T* as(T*) const { return (T*)data_; }
    // To the host, once the kernels are through.
    void back() const {
        if (kind_ == INPUT) return;
        Open open;
        open.add(data_, size_, "an op");
        memcpy(host_, data_, size_);
    }

private:
    void* host_;
    size_t size_;
    Kind kind_;
    char* data_;
};

}  // namespace emulation

inline void cudaMemsetAsync(void* place, int value, size_t size) {
    emulation::Open open;
    open.add(place, size, "cudaMemsetAsync");
    memset(place, value, size);
}
