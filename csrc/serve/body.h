// The body of a request as Beast reads it: memory is taken from the budget as bytes arrive.
#pragma once

#include <boost/beast/core/buffers_range.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/optional.hpp>
#include <cstdint>
#include <optional>
#include <vector>

#include "memory_budget.h"

namespace labelassemble::serve {

struct ChargedBody {
  struct value_type {
    std::vector<std::uint8_t> bytes;
    std::optional<MemoryBudget::Charge> charge;  // to be set before anything is read
    std::optional<HttpError> refused;            // why no more was read
  };

  static std::uint64_t size(const value_type& body) { return body.bytes.size(); }

  class reader {
   public:
    template <bool isRequest, class Fields>
    reader(boost::beast::http::header<isRequest, Fields>&, value_type& body) : body_(body) {}

    // What a client announces is no reason to take memory; addresses cost none until they are used.
    void init(const boost::optional<std::uint64_t>& length, boost::beast::error_code& error) {
      announced_ = length ? static_cast<std::size_t>(*length) : 0;
      error = {};
    }

    template <class Buffers>
    std::size_t put(const Buffers& buffers, boost::beast::error_code& error) {
      std::size_t total = 0;
      try {
        for (const auto buffer : boost::beast::buffers_range_ref(buffers)) {
          const auto* data = static_cast<const std::uint8_t*>(buffer.data());
          if (announced_ > 0) {
            body_.charge->add(buffer.size());
            if (body_.bytes.empty() && announced_ <= kFirst) body_.bytes.reserve(announced_);
            if (body_.bytes.size() + buffer.size() > kFirst) body_.bytes.reserve(announced_);
          } else {
            make_room(body_.bytes, buffer.size(), *body_.charge);
          }
          body_.bytes.insert(body_.bytes.end(), data, data + buffer.size());
          total += buffer.size();
        }
      } catch (const HttpError& refused) {
        body_.refused = refused;
        error = boost::beast::errc::make_error_code(boost::beast::errc::not_enough_memory);
      } catch (const std::bad_alloc&) {
        body_.refused = HttpError(503, "no memory is free for this request", 1);
        error = boost::beast::errc::make_error_code(boost::beast::errc::not_enough_memory);
      }
      return total;
    }

    void finish(boost::beast::error_code& error) { error = {}; }

   private:
    static constexpr std::size_t kFirst = std::size_t{64} << 10;
    value_type& body_;
    std::size_t announced_ = 0;
  };
};

}  // namespace labelassemble::serve
