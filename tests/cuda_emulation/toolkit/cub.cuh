// The part of CUB that Jittor calls: what a block does together, and what the host asks of the device.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <iterator>
#include <numeric>

#ifdef __CUDACC__
namespace cub {

struct Max {
    template <class T> T operator()(T a, T b) const { return a > b ? a : b; }
};
struct Min {
    template <class T> T operator()(T a, T b) const { return a < b ? a : b; }
};
struct Sum {
    template <class T> T operator()(T a, T b) const { return a + b; }
};
template <class Key, class Value> struct KeyValuePair {
    Key key;
    Value value;
};

// Of all threads' values; the first thread has the result.
template <class T, int THREADS> class BlockReduce {
public:
    struct TempStorage {
        T values[THREADS];
    };
    explicit BlockReduce(TempStorage& storage) : values_(storage.values) {}
    template <class Operation> T Reduce(T value, Operation operation) {
        values_[threadIdx.x] = value;
        __syncthreads();
        if (threadIdx.x == 0)
            for (int t = 1; t < THREADS; t++) value = operation(value, values_[t]);
        return value;
    }
    T Sum(T value) { return Reduce(value, cub::Sum()); }

private:
    T* values_;
};

// The sums up to each of the threads' items, thread by thread.
template <class T, int THREADS> class BlockScan {
public:
    struct TempStorage {
        T sums[THREADS];
    };
    explicit BlockScan(TempStorage& storage) : sums_(storage.sums) {}
    template <int ITEMS> void InclusiveSum(T (&from)[ITEMS], T (&to)[ITEMS]) {
        std::partial_sum(from, from + ITEMS, to);
        sums_[threadIdx.x] = to[ITEMS - 1];
        __syncthreads();
        for (T& sum : to)
            for (unsigned t = 0; t < threadIdx.x; t++) sum += sums_[t];
    }

private:
    T* sums_;
};

// Of the values of a warp's threads, all of which take part; the first has the result.
template <class T> class WarpReduce {
public:
    struct TempStorage {};
    explicit WarpReduce(TempStorage&) {}
    T Sum(T value) {
        for (unsigned by = emulation::WARP / 2; by; by /= 2) value += __shfl_down_sync(~0u, value, by);
        return value;
    }
};
inline unsigned LaneId() { return emulation::flat(threadIdx, blockDim) % emulation::WARP; }

// Each is asked twice: for the bytes it works in, then to work.
inline bool asks_for_bytes(void* storage, size_t& bytes) {
    bytes = 16;
    return !storage;
}

struct DeviceScan {
    template <class From, class To> static cudaError_t InclusiveSum(void* storage, size_t& bytes, From from, To to, int n) {
        if (asks_for_bytes(storage, bytes) || !n) return cudaSuccess;
        emulation::Open open;
        open.add(first(from, n), n * sizeof(*from), "DeviceScan");
        open.add(first(to, n), n * sizeof(*to), "DeviceScan");
        std::partial_sum(from, from + n, to);
        return cudaSuccess;
    }

private:
    template <class T> static const T* first(T* place, int) { return place; }
    template <class T> static const T* first(std::reverse_iterator<T*> place, int n) { return place.base() - n; }
};

struct DeviceSegmentedReduce {
    template <class T, class Offset>
    static cudaError_t ArgMax(void* storage, size_t& bytes, const T* from, KeyValuePair<int, T>* to, int segments, const Offset* begin, const Offset*) {
        return best(storage, bytes, from, to, segments, begin, [](T a, T b) { return a > b; });
    }
    template <class T, class Offset>
    static cudaError_t ArgMin(void* storage, size_t& bytes, const T* from, KeyValuePair<int, T>* to, int segments, const Offset* begin, const Offset*) {
        return best(storage, bytes, from, to, segments, begin, [](T a, T b) { return a < b; });
    }

private:
    template <class T, class Offset, class Better>
    static cudaError_t best(void* storage, size_t& bytes, const T* from, KeyValuePair<int, T>* to, int segments, const Offset* begin, Better better) {
        if (asks_for_bytes(storage, bytes)) return cudaSuccess;
        emulation::Open open;
        open.add(begin, (segments + 1) * sizeof(Offset), "DeviceSegmentedReduce");
        open.add(from, begin[segments] * sizeof(T), "DeviceSegmentedReduce");
        open.add(to, segments * sizeof *to, "DeviceSegmentedReduce");
        for (int s = 0; s < segments; s++) {
            Offset found = begin[s];
            for (Offset i = found; i < begin[s + 1]; i++)
                if (better(from[i], from[found])) found = i;
            to[s] = {(int)(found - begin[s]), from[found]};
        }
        return cudaSuccess;
    }
};

struct DeviceSegmentedRadixSort {
    template <class Key, class Value, class Offset>
    static cudaError_t SortPairs(void* storage, size_t& bytes, const Key* keys, Key* sorted_keys, const Value* values, Value* sorted, int n,
                                 int segments, const Offset* begin, const Offset*) {
        return sort(storage, bytes, keys, sorted_keys, values, sorted, n, segments, begin, [](Key a, Key b) { return a < b; });
    }
    template <class Key, class Value, class Offset>
    static cudaError_t SortPairsDescending(void* storage, size_t& bytes, const Key* keys, Key* sorted_keys, const Value* values, Value* sorted,
                                           int n, int segments, const Offset* begin, const Offset*) {
        return sort(storage, bytes, keys, sorted_keys, values, sorted, n, segments, begin, [](Key a, Key b) { return a > b; });
    }

private:
    template <class Key, class Value, class Offset, class Before>
    static cudaError_t sort(void* storage, size_t& bytes, const Key* keys, Key* sorted_keys, const Value* values, Value* sorted, int n,
                            int segments, const Offset* begin, Before before) {
        if (asks_for_bytes(storage, bytes) || !n) return cudaSuccess;
        emulation::Open open;
        open.add(begin, (segments + 1) * sizeof(Offset), "DeviceSegmentedRadixSort");
        for (const void* place : {(const void*)keys, (const void*)sorted_keys}) open.add(place, n * sizeof(Key), "DeviceSegmentedRadixSort");
        for (const void* place : {(const void*)values, (const void*)sorted}) open.add(place, n * sizeof(Value), "DeviceSegmentedRadixSort");
        std::vector<Offset> order(n);
        std::iota(order.begin(), order.end(), Offset(0));
        for (int s = 0; s < segments; s++)
            std::stable_sort(order.begin() + begin[s], order.begin() + begin[s + 1], [&](Offset a, Offset b) { return before(keys[a], keys[b]); });
        for (int i = 0; i < n; i++) {
            sorted_keys[i] = keys[order[i]];
            sorted[i] = values[order[i]];
        }
        return cudaSuccess;
    }
};

}  // namespace cub

namespace thrust {
template <class T> std::reverse_iterator<T*> make_reverse_iterator(T* place) { return std::reverse_iterator<T*>(place); }
}  // namespace thrust
#endif
